"""A folder of one's own: what it may hold, what becomes of it, and one clear line for every mistake."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.load import load_dataset, load_prepared
from benchmark.data.make_splits import compare, write
from benchmark.data.splits import check_split_matches_data, load_split, split_names
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.spec import Spec
from tests.conftest import invoke, one_line_error, refused
from tests.factories import offered
from tests.own_folder import PATIENTS, YAML, picture, write_folder, write_table

SIZE = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "cells", YAML)


def opened(folder: Path) -> PreparedData:
    return load_prepared(str(folder), SIZE, root=folder.parent / "prepared")


def said(folder: Path, text: str) -> None:
    (folder / "dataset.yaml").write_text(text)


def test_values(folder: Path):
    data = opened(folder)
    assert data.name == "cells" and data.classes == ("background", "one", "two")
    assert data.ids[:3] == ("A_0", "A_5", "A_10"), "numbers in names are numbers"
    assert data.groups["patient"][:5] == ("A",) * 4 + ("B",) and set(data.groups["set"]) == {"train"}
    for name in data.ids:
        number = int(name.split("_")[1])
        image, truth = picture(number)
        expected = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        assert np.array_equal(data.images[data.position(name)], expected)
        assert np.array_equal(data.native_classes(name), truth if number < 16 else np.full_like(truth, 255))
    assert data.unmasked == {"B_16", "C_17", "D_18", "E_19"}
    assert (data.masks[data.position("B_16")] == 255).all() and not data.native("B_16").any()


def _ignored(truth: np.ndarray) -> np.ndarray:
    truth[:, :5] = 9
    return truth


COLOURS = np.array([[255, 255, 255], [255, 0, 0], [1, 2, 3]], np.uint8)
WAYS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "values": (lambda truth: np.array([7, 255, 3], np.uint8)[truth], "{background: 7, one: 255, two: 3}"),
    "colours": (lambda truth: COLOURS[truth],
                "{background: [255, 255, 255], one: [255, 0, 0], two: [1, 2, 3]}\nmask_suffix: -labels"),
    "ignore": (_ignored, "[background, one, two]\nignore: 9"),
    "instances": (lambda truth: np.array([0, 4, 900], np.uint16)[truth], "[nothing, cell]\nmasks: instances"),
}


def test_a_colour_that_is_no_class_is_named_with_those_that_are(folder: Path):
    said(folder, "classes: {background: [255, 255, 255], one: [255, 0, 0], two: [1, 2, 3]}\nignore: [9, 9, 9]\n")
    for path in (folder / "masks").iterdir():
        mask = COLOURS[np.array(Image.open(path))]
        mask[0, 0] = 9, 9, 9
        mask[1, :2] = [1, 2, 4] if path.stem == "A_0" else mask[1, :2]
        Image.fromarray(mask).save(path)
    with pytest.raises(UserError, match=r"A_0\.png: mask values \(1, 2, 4\) in 2 pixels are no .*one \(255, 0, 0\)"):
        opened(folder)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_masks_gives_the_same_classes(folder: Path, way: str):
    first, (write_as, classes) = opened(folder), WAYS[way]
    for path in sorted((folder / "masks").iterdir()):
        made = write_as(np.array(Image.open(path)))
        path.unlink()
        path = path.with_name(f"{path.stem}-labels.png" if "suffix" in classes else path.name)
        Image.fromarray(made).save(path)
    said(folder, f"name: cells\nclasses: {classes}\n")
    again = opened(folder)
    for name in set(first.ids) - first.unmasked:
        expected = first.native_classes(name).copy()
        if way == "ignore":
            expected[:, :5] = 255
        if way == "instances":
            assert set(np.unique(again.native(name))) == ({0, 4, 900} if expected.max() == 2 else {0, 4})
            expected = (expected > 0).astype(np.uint8)
        assert np.array_equal(again.native_classes(name), expected)


def test_grey_makes_colours_their_brightness_and_instances_may_have_a_value_to_ignore(folder: Path):
    said(folder, "classes: [nothing, cell]\nmasks: instances\nignore: 2\npixels: grey\n")
    data = opened(folder)
    assert set(np.unique(data.native("A_0"))) == {0, 1} and (data.images[0] == data.images[0][..., :1]).all()
    assert np.array_equal(data.native_valid("A_0"), picture(0)[1] != 2)
    image = data.dataset.read_image(next(iter(data.dataset.items(folder))))[..., 0]
    known = np.asarray(Image.open(folder / "images" / "A_0.png").convert("L")).astype(int)
    assert np.abs(image - known).max() <= 1


def test_groups_come_from_a_table_or_from_names(folder: Path):
    first = opened(folder)
    said(folder, YAML.replace("groups: groups.csv", "pattern: '^(?P<patient>[A-Z])_(?P<slide>\\d)'"))
    second = opened(folder)
    assert second.groups["patient"] == first.groups["patient"] and "grade" not in second.groups
    assert second.groups["slide"][2] == "1"
    rows = (folder / "groups.csv").read_text().replace(",", ";").replace("A_0;", "A_0.png;").splitlines()
    (folder / "groups.csv").write_text("\ufeff" + "\r\n".join([rows[0], *reversed(rows[1:]), "", ";;"]))
    said(folder, YAML)
    assert opened(folder).groups == first.groups


def test_groups_with_a_meaning_may_be_in_capitals(folder: Path):
    first = opened(folder)
    (folder / "groups.csv").write_text((folder / "groups.csv").read_text().replace(
        "id,patient,grade", " ID ;Patient;GRADE").replace(",", ";"))
    assert opened(folder).groups == first.groups
    (folder / "dataset.yaml").unlink()
    assert "the columns ID, Patient, GRADE of groups.csv" in invoke("data", "new", folder).stdout
    said(folder, YAML.replace("groups: groups.csv", "pattern: '^(?P<Patient>[A-Z])_'"))
    assert opened(folder).groups["patient"] == first.groups["patient"]
    said(folder, YAML.replace("groups: groups.csv", "image_files: 'images/{Patient}_{name}'\n"
                                                    "mask_files: 'masks/{Patient}_{name}'"))
    assert opened(folder).groups["patient"] == first.groups["patient"]


def test_what_is_said_of_pixels_and_groups_makes_another_version_and_a_comment_does_not(folder: Path):
    first = load_dataset(str(folder)).version
    said(folder, "# ours\n" + YAML + "licence: CC BY 4.0\npublishable: true\n")
    assert load_dataset(str(folder)).version == first and load_dataset(str(folder)).publishable
    (folder / "groups.csv").write_text((folder / "groups.csv").read_text().replace("high", "low"))
    second = load_dataset(str(folder)).version
    said(folder, YAML.replace("two: 2", "two: 3"))
    assert len({first, second, load_dataset(str(folder)).version}) == 3


def test_a_folder_that_moves_stays_the_same_data(folder: Path, tmp_path: Path):
    first = opened(folder)
    moved = tmp_path / "elsewhere, née «x»"
    folder.rename(moved)
    second = load_prepared(str(moved), SIZE, root=tmp_path / "prepared")
    assert second.content == first.content and second.dataset.source == str(moved)
    here, there = (Spec("m", "cells", "folds", 20, 0, 0, "fair", {}, str(place)) for place in (folder, moved))
    assert here.run_id == there.run_id and here.run_id.startswith("m-cells-folds-r20")
    assert Spec.from_json(here.to_json()) == here and "source" not in Spec("m", "glas", "folds", 20, 0, 0, "").to_json()


def test_names_and_paths(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    for given in ("cells", "./cells/", "cells/dataset.yaml"):
        found = load_dataset(given)
        assert (found.name, found.source, found.home) == ("cells", "./cells", Path("cells"))
    glas = load_dataset("glas")
    assert (glas.name, glas.source, glas.home) == ("glas", "glas", None)
    with pytest.raises(UserError, match="nowhere/x: no such folder"):
        load_dataset("nowhere/x")
    said(folder, YAML.replace("name: cells\n", ""))
    folder.rename("Zellen – größer, 2. Teil")
    assert load_dataset("./Zellen – größer, 2. Teil").name == "Zellen_groer_2._Teil"


YAML_MISTAKES = {
    "name: x": "dataset.yaml: classes is missing",
    "name: x\nmasks: instance\nclasses: [a, b]": "line 2: masks must be 'classes' or 'instances', not 'instance'. Did",
    "classes: [a, b]\nname: glas": "line 2: name must not be 'glas', the name of a built-in data set",
    "classes: [a, a]": "line 1: classes must be 2 to 255 different names",
    "classes:\n  a: 0\n  b: #ff0000": "line 3: b must be a number of the masks, 0 to 65535, a colour",
    "classes: {a: 0, b: {from: 0}}": "line 1: classes must have different values; 'b' has another class's, 0",
    "classes:\n  a: 0\n  b: [255, 0, 0]": "line 1: classes must be all numbers or all colours",
    "masks: instances\nclasses: {a: 0, b: 1}": "line 2: classes must be exactly two names if masks are instances",
    "classes: {a: 0, b: 1}\nignore: 1": "line 2: ignore must not be 1, which is a class",
    "classes: {a: 0, b: 1}\nignore: [0, 0, 0]": "line 2: ignore must be a number",
    "classes: {a: 0, b: 1}\nrange: [9, 3]": "line 2: range must be [low, high]",
    "classes: {a: 0, b: 1}\ntile: {size: 64, overlap: 64}": "line 2: tile must have a size of 16 pixels or more",
    "classes: {a: 0, b: 1}\npattern: '(?P<patient>'": "line 2: pattern must be a regular expression",
    "classes: {a: 0, b: 1}\npattern: '[A-Z]'": "line 2: pattern must have a named group",
    "classes: {a: 0, b: 1}\nimage_files: '{g}/{name}'": "mask_files must have the same names in braces as image_files",
    "classes: {a: 0, b: 1}\nsplits: {official: {train: a, test: b}}": "'official', which is a name that the suite uses",
    "classes: {a: 0, b: 1}\nsplits:\n  mine: [{train: a, test: b, tets: c}]": "line 3: unknown key 'tets'. Did you",
    "classes: [a, b]\nrange: [0, " + "9" * 5000 + "]": "line 2: entry 2 of range must be a whole number, not '9999",
}


@pytest.mark.parametrize("text", YAML_MISTAKES)
def test_a_mistake_in_the_file_is_one_line_with_its_line(folder: Path, text: str):
    said(folder, text + "\n")
    with refused(YAML_MISTAKES[text], str(folder / "dataset.yaml")):
        load_dataset(str(folder))


def _outside(folder: Path) -> None:
    shutil.copy(folder / "images" / "A_0.png", folder.parent / "secret.png")
    (folder / "images" / "A_0.png").unlink()
    (folder / "images" / "A_0.png").symlink_to(folder.parent / "secret.png")


def _paint(value: int) -> Callable[[Path], None]:
    def paint(folder: Path) -> None:
        mask = np.array(Image.open(folder / "masks" / "A_0.png"))
        mask[:2, :3] = value
        Image.fromarray(mask).save(folder / "masks" / "A_0.png")

    return paint


def _append(line: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "groups.csv").write_text((folder / "groups.csv").read_text() + line)


def _replace(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "groups.csv").write_text((folder / "groups.csv").read_text().replace(old, new))


def _dangling(folder: Path) -> None:
    (folder / "images" / "dead.png").symlink_to(folder / "images" / "nowhere.png")
    _append("dead,A,low\n")(folder)


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link out": (_outside, r"images/A_0\.png: leads out of the folder, to .*secret\.png"),
    "two of one name": (lambda f: shutil.copy(f / "images" / "A_0.png", f / "images" / "A_0.tif"),
                        r"A_0\.tif: a second file called 'A_0' beside .*A_0\.png; keep one"),
    "orphan": (lambda f: (f / "images" / "A_0.png").unlink(), r"masks/A_0\.png: a mask without its.*new': --images"),
    "dead link": (_dangling, r"images/dead\.png: No such file or directory; if it is a link"),
    "no masks": (lambda f: [path.unlink() for path in (f / "masks").iterdir()], r"no masks .* at 'masks/"),
    "folder in it": (lambda f: (f / "images" / "more").mkdir(), "images/more: a folder"),
    "a slide": (lambda f: (f / "images" / "x.svs").write_bytes(b""), r"x\.svs: not an image by its name"),
    "broken image": (lambda f: (f / "images" / "A_0.png").write_bytes(b"no"), r"images/A_0\.png: not an image"),
    "other size": (lambda f: Image.new("L", (9, 9)).save(f / "masks" / "A_0.png"), r"A_0\.png.*9 x 9; they must be"),
    "line in name": (lambda f: shutil.copy(f / "images" / "A_0.png", f / "images" / "a\nb.png"), "plainer name"),
    "value": (_paint(7), r"masks/A_0\.png: mask values 7 in 6 pixels are no class of dataset\.yaml \(background 0, "),
    "no table": (lambda f: (f / "groups.csv").unlink(), r"groups\.csv: no such file; dataset\.yaml names it"),
    "no id": (_replace("id,", "image,"), "line 1: expected different plain names of columns, id among them"),
    "unknown row": (_append("A_00,A,low\n"), r"line 22: there is no image 'A_00'\. Did you mean 'A_0'\?"),
    "open quote": (_append(f'A_00,"{"x" * 200_000}'), r"groups\.csv, line 22: .*; does a quotation mark not end\?"),
    "lost row": (_replace("A_0,A,high\n", ""), r"no row for the image 'A_0'"),
    "tested without a mask": (
        lambda f: write_table(f, "set", lambda name: "test" if name == "E_19" else "train"),
        r"E_19\.png: is in set 'test' and has no mask"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_wrong_file_gets_one_clear_line(folder: Path, case: str):
    spoil, words = BAD_FILES[case]
    spoil(folder)
    with pytest.raises(UserError, match=words):
        opened(folder)


def test_names_with_blanks_accents_and_quotes_are_names(folder: Path):
    for part in ("images", "masks"):
        (folder / part / "A_0.png").rename(folder / part / "l'été \"1\" #2.png")
    (folder / "groups.csv").write_text((folder / "groups.csv").read_text().replace("A_0,", "\"l'été \"\"1\"\" #2\","))
    data = opened(folder)
    name = "l'été \"1\" #2"
    assert name in data.ids and np.array_equal(data.native_classes(name), picture(0)[1])
    write(data)
    fold = next(number for number in range(3) if name not in load_split(data.dataset, "folds", 20, number).test)
    (folder / "own.txt").write_text(f"{name}\n")
    own = load_split(data.dataset, "folds", None, fold, labelled_file=folder / "own.txt")
    assert own.labelled == (name,), "not a comment"


def test_folds_keep_patients_apart_and_leave_images_without_masks_to_training(folder: Path):
    data = opened(folder)
    write(data)
    assert offered(data.dataset) == {"folds": ([5, 10, 20, 50, 100], 3)}
    assert (folder / "splits" / "folds.json").is_file() and compare(data)[0]
    tested = []
    for fold in range(3):
        for ratio in (5, 20, 100):
            split = load_split(data.dataset, "folds", ratio, fold)
            learnt = {*split.labelled, *split.unlabelled}
            assert not {name[0] for name in learnt} & {name[0] for name in split.test}
            assert not {*split.labelled, *split.validation, *split.test} & data.unmasked
            assert not set(split.labelled) & {*split.validation, *split.test}
            assert check_split_matches_data(split, data) == []
        assert set(split.unlabelled) == {name for name in data.unmasked if name[0] not in {t[0] for t in split.test}}
        assert len(split.labelled) + len(split.test) == 16
        tested += split.test
    assert sorted(tested) == sorted(set(data.ids) - data.unmasked), "each is tested once"
    with pytest.raises(UserError, match="6 folds need 6 patients"):
        write(data, 6)


def test_ratios_are_percentages_of_the_images_that_have_a_mask(tmp_path: Path):
    folder = write_folder(tmp_path / "many", "classes: {background: 0, cell: 255}\npattern: '(?P<patient>.)_'\n",
                          images=60, bare=40, classes=2, values=(0, 255))
    data = opened(folder)
    write(data)
    half, whole = (load_split(data.dataset, "folds", ratio, 0) for ratio in (50, 100))
    assert len(whole.labelled) == 20 - len(whole.test) and len(half.labelled) == round(len(whole.labelled) / 2 + 0.01)
    assert set(whole.unlabelled) < data.unmasked and len(whole.unlabelled) >= 20
    own = tmp_path / "own.txt"
    own.write_text(f"{whole.labelled[0]}\n{whole.unlabelled[0]}\n")
    with pytest.raises(UserError, match=r"line 2: .* has no mask; it can only be an unlabelled training image"):
        load_split(data.dataset, "folds", 20, 0, labelled_file=own)
    own.write_text("\n".join(whole.labelled))
    assert load_split(data.dataset, "folds", None, 0, labelled_file=own).ratio == 100
    assert load_split(data.dataset, "folds", 20, 0, labelled_file=own).ratio == 20, "a ratio that is given stays"


def test_sets_make_it_official_and_a_validation_set_is_held_out(folder: Path):
    held = {"A": "test", "B": "validation"}
    write_table(folder, "patient,set",
                lambda name: f"{name[0]},{held.get(name[0], 'train') if name != 'B_16' else 'train'}")
    data = opened(folder)
    write(data)
    split = load_split(data.dataset, "official", 50, 0)
    assert {name[0] for name in split.test} == {"A"} and {name[0] for name in split.validation} == {"B"}
    assert {name[0] for name in split.labelled} <= set("CDE") and "B_16" in split.unlabelled
    assert not set(split.validation) & {*split.labelled, *split.unlabelled}
    assert split_names(data.dataset) == ["official"]


def test_strata_are_the_classes_that_occur_where_no_grade_is_known(folder: Path):
    said(folder, YAML.replace("groups: groups.csv\n", ""))
    for number in range(0, 16, 2):
        path = folder / "masks" / f"{PATIENTS[number % 5]}_{number}.png"
        Image.fromarray(np.minimum(np.array(Image.open(path)), 1)).save(path)
    data = opened(folder)
    write(data)
    for fold in range(3):
        split = load_split(data.dataset, "folds", 50, fold)
        even = sum(int(name.split("_")[1]) % 2 == 0 for name in split.labelled)
        assert abs(2 * even - len(split.labelled)) <= 1
        assert abs(2 * sum(int(name.split("_")[1]) % 2 == 0 for name in split.test) - len(split.test)) <= 1


def test_lists_of_ones_own(folder: Path):
    masked = [path.stem for path in (folder / "masks").iterdir()]
    parts = {"train": "CDE", "test": "A", "val": "B"}
    for part, patients in parts.items():
        names = sorted(name for name in masked if name[0] in patients) + (["C_17"] if part == "train" else [])
        (folder / f"{part}.txt").write_text("# of the clinic\n" + "\n".join(names) + "\n")
    (folder / "few.txt").write_text("C_2\n")
    said(folder, YAML + "splits:\n  mine: {train: train.txt, test: test.txt, validation: val.txt, "
                        "labelled: {10: few.txt}}\n")
    data = opened(folder)
    assert write(data) == [f"wrote {folder / 'splits' / 'mine.json'}"]
    split = load_split(data.dataset, "mine", 10, 0)
    assert split.labelled == ("C_2",) and {name[0] for name in split.validation} == {"B"} and "C_17" in split.unlabelled
    assert len(load_split(data.dataset, "mine", 100, 0).labelled) == sum(name[0] in "CDE" for name in masked)
    lists = {name: (folder / name).read_text() for name in ("train.txt", "test.txt", "val.txt", "few.txt")}
    for name, line, words in (
        ("train.txt", "A_5\n", r"test\.txt: 'A_5' is also in train\.txt"),
        ("test.txt", "B_16\n", r"test\.txt, line 6: 'B_16' has no mask"),
        ("train.txt", "B_16\n", None),
        ("few.txt", "A_5\n", r"few\.txt, line 2: 'A_5' is no training image of train\.txt"),
    ):
        (folder / name).write_text(lists[name] + line)
        if words:
            with pytest.raises(UserError, match=words):
                write(data)
        else:
            written, before = folder / "splits" / "mine.json", (folder / "splits" / "mine.json").read_bytes()
            assert write(data) == [f"wrote {written}; the other version that was there is kept as mine.json.old1"]
            assert written.with_name("mine.json.old1").read_bytes() == before != written.read_bytes()
        (folder / name).write_text(lists[name])
    (folder / "train.txt").write_text(lists["train.txt"].replace("C_7\n", ""))
    (folder / "test.txt").write_text(lists["test.txt"] + "C_7\n")
    with pytest.raises(UserError, match=r"train\.txt: 'C_\d+' is of 'C', as is 'C_7' of test\.txt; a patient or slide"):
        write(data)
    said(folder, YAML + "splits:\n  mine: [{train: train.txt, test: test.txt, validation: val.txt}, "
                        "{train: train.txt, test: test.txt}]\n")
    with pytest.raises(UserError, match="some folds of the split 'mine' have a validation list and some have none"):
        write(opened(folder))


def test_what_was_added_after_the_lists_were_made_is_said(folder: Path):
    data = opened(folder)
    write(data)
    split = load_split(data.dataset, "folds", 20, 0)
    shutil.copy(folder / "masks" / "A_0.png", folder / "masks" / "B_16.png")
    (remark,) = check_split_matches_data(split, opened(folder))
    assert "have changed since the split 'folds' was made" in remark and f"data split {folder} --write" in remark
    (folder / "masks" / f"{split.labelled[0]}.png").unlink()
    with pytest.raises(UserError, match=f"needs the mask of {split.labelled[0]}, which is not there any more"):
        check_split_matches_data(split, opened(folder))
    path = folder / "splits" / "folds.json"
    path.write_text(path.read_text().replace("A_0", "A_00"))
    with pytest.raises(UserError, match=r"the file was edited; make it again with .*data split"):
        load_split(data.dataset, "folds", 20, 0)


def test_prepare_sets_the_tiling_once(folder: Path):
    told = invoke("data", "prepare", folder, "--size", SIZE, "--tile", "32", "--overlap", "8")
    assert "added tile: {size: 32, overlap: 8}" in told.stderr and "20 images in 80 tiles" in told.stdout
    assert (folder / "dataset.yaml").read_text() == YAML + "tile: {size: 32, overlap: 8}\n"
    again = invoke("data", "prepare", folder, "--size", SIZE, "--tile", "32", "--overlap", "8")
    assert "already has tile" in again.stderr
    wrong = one_line_error(invoke("data", "prepare", folder, "--size", SIZE, "--tile", "64"))
    assert "has tile: {size: 32, overlap: 8}; change it there" in wrong
    assert "is prepared whole" in one_line_error(invoke("data", "prepare", "synthetic", "--tile", "64"))
    assert "leave out --from" in one_line_error(invoke("data", "check", folder, "--from", folder))
    flow = "{name: cells, classes: {background: 0, one: 1, two: 2}}\n"
    (folder / "dataset.yaml").write_text(flow)
    told = one_line_error(invoke("data", "prepare", folder, "--size", SIZE, "--tile", "32", "--overlap", "8"))
    assert "add there yourself: tile: {size: 32, overlap: 8}" in told and (folder / "dataset.yaml").read_text() == flow


def test_verbs_take_the_path_and_say_how_to_begin(folder: Path):
    arguments = ("--method", "supervised", "--dataset", folder, "--preset", "demo")
    assert f"'python -m benchmark data split {folder} --write'" in one_line_error(invoke("run", *arguments))
    assert "data.size" in invoke("explain", *arguments).stdout
    (folder / "dataset.yaml").rename(folder / "other.yaml")
    for failed in (invoke("run", *arguments), invoke("data", "check", folder)):
        assert f"no dataset.yaml in it; 'python -m benchmark data new {folder}' writes one" in one_line_error(failed)
