"""`data new`: what it sees in folders as people have them, and that none of their labels is lost without a word."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmark.data.load import load_dataset
from benchmark.errors import UserError
from tests.conftest import demo_run, invoke, one_line_error
from tests.own_folder import picture, write_folder

Mask = Callable[[int, np.ndarray], "np.ndarray | Image.Image"]


def look(folder: Path, *arguments: object) -> tuple[str, str]:
    """What `data new` tells, and the file that it writes, which can be read."""
    (folder / "dataset.yaml").unlink(missing_ok=True)
    result = invoke("data", "new", folder, *arguments)
    assert result.returncode == 0, result.stderr
    load_dataset(str(folder))
    return result.stdout, (folder / "dataset.yaml").read_text()


def filled(folder: Path, mask: Mask, kind: str = "png", count: int = 6) -> Path:
    """A folder of `count` images with `mask(number, truth)`; the truth is 0 and 1."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image, truth = picture(number, 2)
        Image.fromarray(image).save(folder / "images" / f"a_{number}.png")
        made = mask(number, truth)
        made = made if isinstance(made, Image.Image) else Image.fromarray(made)
        made.save(folder / "masks" / f"a_{number}.{kind}")
    return folder


def learned(folder: Path) -> list[np.ndarray]:
    """The masks [H, W] as classes."""
    dataset = load_dataset(str(folder))
    return [dataset.read_mask(item) for item in dataset.items(folder)]


def assert_true(folder: Path, most_wrong: float = 0.0) -> None:
    """The classes are those that were drawn, up to a share of the pixels."""
    for number, found in enumerate(learned(folder)):
        assert np.mean(found != picture(number, 2)[1]) <= most_wrong


def smooth(number: int, truth: np.ndarray) -> Image.Image:
    large = Image.fromarray(truth * 255).resize((260, 200))
    return large.filter(ImageFilter.GaussianBlur(3)).resize((52, 40))


def test_new_writes_what_it_sees_and_says_what_it_guesses(tmp_path: Path):
    folder = write_folder(tmp_path / "cells")
    told, text = look(folder)
    assert "20 images, 16 with a mask; the 4 without one" in told and "taken for classes: give them names" in told
    assert text == ('name: cells\nclasses:\n  background: 0\n  class_1: 1\n  class_2: 2\ngroups: "groups.csv"\n')
    (folder / "groups.csv").unlink()
    told, text = look(folder, "--tile", "32", "--overlap", "4")
    assert "groups: no table with a column id" in told and "tile: {size: 32, overlap: 4}\n" in text
    assert "dataset.yaml: is there already" in one_line_error(invoke("data", "new", folder))
    assert (folder / "dataset.yaml").read_text() == text


def test_a_folder_may_be_called_like_a_number_and_no_file_is_left_that_cannot_be_read(tmp_path: Path):
    assert 'name: "2024"\n' in look(write_folder(tmp_path / "2024"))[1]
    assert 'name: "true"\n' in look(write_folder(tmp_path / "true"))[1]
    folder = write_folder(tmp_path / "white", images=2, bare=0)
    for path in (folder / "images").iterdir():
        Image.fromarray(np.full((40, 52), 65535, np.uint16)).save(path)
    assert "range must be [low, high]" in one_line_error(invoke("data", "new", folder))
    assert not (folder / "dataset.yaml").exists()


def test_new_knows_colours_instances_suffixes_ignore_and_sixteen_bits(tmp_path: Path):
    folder = write_folder(tmp_path / "cells")
    masks = {path: np.array(Image.open(path)) for path in (folder / "masks").iterdir()}
    for path, truth in masks.items():
        Image.fromarray(np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)[truth]).save(path)
    assert "  background: [0, 0, 0]\n  class_1: [255, 0, 0]\n  class_2: [0, 0, 255]\n" in look(folder)[1]
    for number, (path, truth) in enumerate(masks.items()):
        ids = np.where(truth > 0, truth + (2 * (number % 2)), 0).astype(np.uint8)
        ids[38:, :3] = ids.max() + 1 if number % 2 == 0 else 0
        ids = np.unique(ids, return_inverse=True)[1].reshape(ids.shape).astype(np.uint8)
        Image.fromarray(ids).save(path)
    told, text = look(folder)
    assert "masks: instances\nclasses: [background, object]\n" in text and "if they are classes" in told
    for path, truth in masks.items():
        path.unlink()
        truth[:3] = 255
        Image.fromarray(truth).save(path.with_name(f"{path.stem}_mask.png"))
    told, text = look(folder)
    assert "ignore: 255\n" in text and 'mask_files: "masks/{name}_mask"\n' in text and "to be ignored" in told
    for number, path in enumerate((folder / "images").iterdir()):
        Image.fromarray((np.arange(2080).reshape(40, 52) + 500 + number).astype(np.uint16)).save(path)
    told, text = look(folder)
    assert "pixels: grey\n" in text and "range: [508, 2590]" in text and "508 becomes black" in told


def test_images_and_masks_may_lie_in_one_folder_and_a_table_may_have_quotation_marks(tmp_path: Path):
    folder = write_folder(tmp_path / "cells", bare=0)
    for path in (folder / "masks").iterdir():
        path.rename(folder / "images" / f"{path.stem}_mask.png")
    table = (folder / "groups.csv").read_text()
    (folder / "groups.csv").write_text("".join(f'"{line.replace(",", chr(34) + "," + chr(34))}"\n' for line in
                                               table.splitlines()))
    told, text = look(folder, "--images", "images/{name}", "--masks", "images/{name}_mask")
    assert "20 images, 20 with a mask" in told and 'groups: "groups.csv"\n' in text, "no mask is an image"


def test_images_and_masks_may_lie_in_the_folder_itself(tmp_path: Path):
    folder = write_folder(tmp_path / "cells")
    for part, end in (("images", ""), ("masks", "_mask")):
        for path in (folder / part).iterdir():
            path.rename(folder / f"{path.stem}{end}.png")
        (folder / part).rmdir()
    told, _ = look(folder, "--images", "{name}", "--masks", "{name}_mask")
    assert "20 images, 16 with a mask" in told and "groups: the columns id, patient, grade of groups.csv" in told
    assert invoke("data", "split", folder, "--write", "--size", 16).returncode == 0
    (folder / "four.yaml").touch()
    (folder / "list.txt").touch()
    assert invoke("data", "check", folder, "--size", 16).returncode == 0
    (folder / "notes.pdf").touch()
    assert "notes.pdf: not an image by its name" in one_line_error(invoke("data", "check", folder))


def test_white_may_be_number_0_of_a_palette(tmp_path: Path):
    folder = filled(tmp_path / "a", lambda number, truth: Image.fromarray(np.dstack([truth * 255] * 3)).quantize(2))
    assert "  background: [0, 0, 0]\n  foreground: [255, 255, 255]\n" in look(folder)[1]
    assert_true(folder)


@pytest.mark.parametrize("colours", [
    [(0, 0, 0), (255, 0, 0), (0, 0, 255)], [(0, 0, 0), (128,) * 3, (255,) * 3],
])
def test_numbers_of_palettes_that_differ_from_mask_to_mask_are_not_classes(tmp_path: Path, colours: list[tuple]):
    """The last colour is number 2 in masks with the middle one, else 1."""
    def mask(number: int, truth: np.ndarray) -> Image.Image:
        odd = number % 2
        truth *= 1 + odd
        truth[:3] = odd
        made = Image.fromarray(truth).convert("P")
        made.putpalette(np.ravel(colours if odd else colours[::2]).tolist())
        return made

    folder = filled(tmp_path / "a", mask)
    told, text = look(folder)
    assert "3 colours (their numbers differ from file to file), taken for classes" in told
    last = text.split(f": {[*colours[2]]}")[0].count("class_")
    for number, found in enumerate(learned(folder)):
        assert np.array_equal(found[3:] == last, picture(number, 2)[1][3:] == 1)
    (folder / "dataset.yaml").write_text("classes: [background, one, two]\n")
    said = one_line_error(invoke("data", "check", folder, "--size", 16))
    assert "a_1.png: number 1 of its palette is" in said and "a_0.png; give the classes as colours" in said


def test_a_folder_of_a_set_that_is_not_clear_is_told_at_once(tmp_path: Path):
    for part in ("train", "val"):
        filled(tmp_path / part, lambda number, truth: truth)
    told = one_line_error(invoke("data", "new", tmp_path))
    assert "the image 'val_a_0' is in set 'val'; write train, validation" in told and "or rename its folder so" in told


@pytest.mark.parametrize(("kind", "mask"), [("png", smooth), ("jpg", lambda number, truth: truth * 255)])
def test_a_threshold_is_proposed_for_grey_edges_and_jpeg(tmp_path: Path, kind: str, mask: Mask):
    folder = filled(tmp_path / "a", mask, kind)
    told, text = look(folder)
    assert "classes:\n  background: 0\n  foreground: {from: 1" in text and "a threshold divides them" in told
    assert_true(folder, most_wrong=0.02)
    (folder / "dataset.yaml").write_text("classes: {background: 0, gland: 255}\n")
    with pytest.raises(UserError, match=r"\{from: 128\}"):
        learned(folder)


def test_classes_that_only_few_masks_hold_are_not_taken_for_edges(tmp_path: Path):
    """Twelve classes in regions; and two classes with one noisy mask."""
    def many(number: int, truth: np.ndarray) -> np.ndarray:
        return (np.arange(52) // 5 % 12 * 20 * np.ones((40, 1)) * truth).astype(np.uint8)

    assert "{from" not in look(filled(tmp_path / "many", many))[1]
    noise = np.random.default_rng(0).integers(0, 256, (40, 52), dtype=np.uint8)
    folder = filled(tmp_path / "noisy", lambda number, truth: noise if number == 0 else truth, count=20)
    told = one_line_error(invoke("data", "new", folder))
    assert "neither instances" in told and "Save them as PNG" in told
    assert not (folder / "dataset.yaml").exists()


@pytest.mark.parametrize("channels", [2, 4])
def test_masks_with_an_alpha_channel_are_read_by_their_colours(tmp_path: Path, channels: int):
    folder = filled(tmp_path / "a", lambda number, truth: np.dstack([truth * 255] * channels))
    assert "  foreground: 255\n" in look(folder)[1]
    assert_true(folder)
    for path in (folder / "masks").iterdir():  # the shape lies in the alpha channel alone
        pixels = np.array(Image.open(path))
        pixels[..., :-1] = 0
        Image.fromarray(pixels).save(path)
    assert "transparent in some pixels and not in others" in one_line_error(invoke("data", "check", folder))


def test_masks_of_0_and_1_beside_masks_of_0_and_255_keep_all_labels(tmp_path: Path):
    mixed = filled(tmp_path / "mixed", lambda number, truth: truth * (255 if number % 2 else 1))
    told, text = look(mixed)
    assert "foreground: {from: 1}" in text and "3 hold 255, 3 hold 1, none holds both" in told and "ignore" not in text
    assert_true(mixed)

    def unknown(number: int, truth: np.ndarray) -> np.ndarray:
        truth[:2] = 255  # beside the class, in the same masks
        return truth

    told, text = look(filled(tmp_path / "unknown", unknown))
    assert "foreground: 1\nignore: 255\n" in text and "to be ignored" in told
    three = filled(tmp_path / "three", lambda number, truth: truth * [1, 2, 255][number % 3])
    told, text = look(three)
    assert "class_3: 255\n" in text and "ignore" not in text and "taken for a class of its own" in told


def nested(folder: Path, image: str = "{}/image/x{}.png", mask: str = "{}/label/x{}.png") -> Path:
    """Two folders with the same names in them."""
    for number in range(6):
        pixels, truth = picture(number, 2)
        for pattern, array in ((image, pixels), (mask, truth * 255)):
            path = folder / pattern.format(("Polyp", "High-grade IN")[number % 2], number // 2)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return folder


def test_class_folders_with_one_name_in_two_of_them(tmp_path: Path):
    folder = nested(tmp_path / "ebhi")
    text = look(folder)[1]
    assert 'image_files: "{grade}/image/{name}"\nmask_files: "{grade}/label/{name}"\n' in text
    items = list(load_dataset(str(folder)).items(folder))
    assert [item.id for item in items][:2] == ["High-grade IN_x0", "High-grade IN_x1"] and len(items) == 6
    assert [item.groups["grade"] for item in items] == ["High-grade IN"] * 3 + ["Polyp"] * 3
    for item, found in zip(items, learned(folder), strict=True):
        number = 2 * int(item.id[-1]) + (item.groups["grade"] != "Polyp")
        assert np.array_equal(found, picture(number, 2)[1]), "each image has its own mask"
    (folder / "Polyp").rename(tmp_path / "elsewhere")
    (folder / "Polyp").symlink_to(tmp_path / "elsewhere")
    assert "leads out of the folder" in one_line_error(invoke("data", "check", folder))
    (folder / "dataset.yaml").write_text(text + "follow_links: true\n")
    assert len(learned(folder)) == 6
    (folder / "dataset.yaml").unlink()
    assert "('data new': --follow-links)" in one_line_error(invoke("data", "new", folder))
    assert "follow_links: true\n" in look(folder, "--follow-links")[1] and len(learned(folder)) == 6


def test_folders_that_are_spelled_otherwise_are_told(tmp_path: Path):
    folder = nested(tmp_path / "cells")
    assert "left out" not in look(folder)[0]
    for part in ("image", "label"):
        (folder / "Polyp" / part).rename(folder / "Polyp" / part.capitalize())
    for given in ((), ("--images", folder)):
        told = look(folder, *given)[0]
        assert "3 images, 3 with a mask" in told and "left out: the image files in Polyp/Image, Polyp/Label; if" in told


def test_images_for_testing_that_have_no_masks_are_told_with_what_to_do(tmp_path: Path):
    for part in ("train", "test"):
        filled(tmp_path / part, lambda number, truth: truth)
    assert "without a mask" not in look(tmp_path)[0]
    for path in (tmp_path / "test" / "masks").iterdir():
        path.unlink()
    assert "6 in set 'test' without a mask: only training images may lack one: move" in look(tmp_path)[0]
    told = one_line_error(invoke("data", "check", tmp_path, "--size", 16))
    assert "a_0.png: is in set 'test' and has no mask; only" in told and told.endswith("be given to --unlabelled")


def test_nested_folders_elsewhere_with_endings_and_sets(tmp_path: Path):
    """As KPIs 2024 lies: sets, groups, and `_img` and `_mask` at the names' ends, in a folder that stays as it is."""
    raw = tmp_path / "read only"
    for chosen in ("train", "test"):
        nested(raw / chosen, "{}/img/{}_img.png", "{}/mask/{}_mask.png")
    home = tmp_path / "kpis"
    text = look(home, "--images", raw)[1]
    assert '{set}/{grade}/img/{name}_img"\n' in text and '{set}/{grade}/mask/{name}_mask"\n' in text
    items = list(load_dataset(str(home)).items(home))
    assert len(items) == 12 and {item.groups["set"] for item in items} == {"train", "test"}
    assert sorted(path.name for path in home.iterdir()) == ["dataset.yaml"]
    text = look(nested(tmp_path / "stained", "{}/img/{}_HE.png", "{}/mask/{}_HE_mask.png"))[1]
    assert 'image_files: "{grade}/img/{name}"\nmask_files: "{grade}/mask/{name}_mask"\n' in text
    home = tmp_path / "by pattern"
    patterns = [f"{raw}/train/{{slide}}/{part}/{{name}}_{part}" for part in ("img", "mask")]
    look(home, "--images", patterns[0], "--masks", patterns[1])
    assert {item.groups["slide"] for item in load_dataset(str(home)).items(home)} == {"Polyp", "High-grade IN"}


def test_masks_of_which_few_are_in_colours_are_told_apart(tmp_path: Path):
    red = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)
    filled(tmp_path, lambda number, truth: red[truth] if number == 3 else truth * 255)
    said = one_line_error(invoke("data", "new", tmp_path))
    assert "5 masks are grey and 1 are in colours" in said and said.endswith("the fewer: a_3.png")


def test_a_folder_that_is_yet_to_be_made_may_be_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    filled(tmp_path / "raw", lambda number, truth: truth)
    monkeypatch.chdir(tmp_path)
    assert invoke("data", "new", "mine", "--images", "raw").returncode == 0
    assert len(list(load_dataset("./mine").items(tmp_path / "mine"))) == 6
    assert "rwa: no such folder" in one_line_error(invoke("data", "new", "other", "--images", "rwa"))
    assert not (tmp_path / "other").exists()


def test_what_is_no_data_set_is_refused_with_a_hint(tmp_path: Path):
    assert "no such folder" in one_line_error(invoke("data", "new", tmp_path / "nowhere"))
    folder = filled(tmp_path / "my-data", lambda number, truth: truth * 255)
    for arguments, words in ((("--overlap", "3"), "give --tile SIZE"), (("--tile", "3"), "tiles need a size"),
                             (("--masks", "masks"), "give both as patterns"),
                             (("--images", "images/{1}", "--masks", "masks/{1}"), "the same plain names in braces"),
                             (("--images", "images/{name}", "--masks", "masks/{id}"), "the same plain names")):
        assert words in one_line_error(invoke("data", "new", folder, *arguments))
    (folder / "images").rename(tmp_path / "images")
    (folder / "masks").rename(folder / "images")
    (tmp_path / "images").rename(folder / "masks")
    assert "look like masks: are the two swapped?" in one_line_error(invoke("data", "new", folder))
    (folder / "images").rename(folder / "pictures")
    told = one_line_error(invoke("data", "new", tmp_path / "empty", "--images", tmp_path))
    assert "no folder 'images' beside one 'masks' in it" in told


@pytest.mark.ebhi
@pytest.mark.slow
def test_ebhi_seg_goes_from_the_released_folders_to_a_record(
    real_ebhi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):
    """Grey edges, class folders with blanks, names in two of them, patients in several."""
    monkeypatch.chdir(tmp_path)
    told, text = look(tmp_path / "ebhi", "--images", real_ebhi / "ebhi-seg" / "EBHI-SEG")
    assert "{from: 128}" in text and "533 images, 533 with a mask" in told
    with open("ebhi/dataset.yaml", "a") as file:
        file.write("pattern: '(?P<patient>\\d{7})-(?P<slide>\\d+)-'\n")
    common = ("ebhi", "--size", 32)
    checked = invoke("data", "check", *common)
    assert checked.returncode == 0 and "6 Serrated adenoma) of 89 patients and 124 slides" in checked.stdout
    assert "64.4% of pixels are foreground" in checked.stdout
    for arguments in (("prepare", *common), ("split", *common, "--write"), ("preview", *common, "--split", "folds")):
        assert invoke("data", *arguments).returncode == 0
    assert "split folds: none of the 533 test images" in invoke("data", "check", *common).stdout
    result = demo_run(tmp_path, "mean_teacher", dataset="ebhi")
    assert result.returncode == 0 and "strict" in result.stdout
