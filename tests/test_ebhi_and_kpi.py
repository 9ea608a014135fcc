"""EBHI-Seg and KPIs on made-up trees of their layouts, and on the real quarter of EBHI-Seg where it is at hand."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from benchmark.data.check import check_dataset, describe
from benchmark.data.datasets.ebhi_gland import CLASSES, in_quarter
from benchmark.data.fold_lists import ImageInfo, lists_by_patient
from benchmark.data.load import current_fingerprint, load_dataset, load_prepared
from benchmark.data.make_splits import compare, make_all, write
from benchmark.data.pools import join, load_pool
from benchmark.data.splits import Split, check_split_matches_data, load_split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.paths import CONFIGS
from benchmark.runs.request import Request
from benchmark.runs.run import RunOptions, run_or_load
from tests.conftest import TINY

PATIENTS = [f"20{number:05}" for number in range(60)]
EDGES = np.array([0, 100, 127, 128, 253, 255], np.uint8)


def save(path: Path, mask: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    side = np.random.Generator(np.random.PCG64(crc32(path.stem.encode()))).integers(0, 255, (18, 18, 3), dtype=np.uint8)
    Image.fromarray(np.tile(EDGES.repeat(3), (18, 1)) if mask else side).save(path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole set: 60 patients of one to three images each; the first is in two classes, in two spellings."""
    top = tmp_path_factory.mktemp("whole") / "EBHI-SEG"
    for number, patient in enumerate(PATIENTS):
        for image in range(1 + number % 3):
            for part in ("image", "label"):
                save(top / CLASSES[number % 6] / part / f"GTxc{patient}-1-400-{image:03}.png", part == "label")
    for part in ("image", "label"):
        save(top / "Polyp" / part / f"GTXC{PATIENTS[0]}-1-400-007.png", part == "label")
        (top / "Polyp" / part / ".DS_Store").write_bytes(b"of a Mac")
        (top / "Polyp" / part / "Thumbs.db").write_bytes(b"of Windows")
    save(top / "Low-grade IN" / "image" / f"GTGT{PATIENTS[2]}-2-400-001.png", False)
    return top


def opened(raw: Path, root: Path, name: str = "ebhi_gland") -> PreparedData:
    return load_prepared(name, 16, raw=raw, root=root)


def test_classes_are_subsets_patients_have_one_name_and_orphans_are_reported(tree: Path, tmp_path: Path) -> None:
    data, cancer = opened(tree, tmp_path), opened(tree.parent, tmp_path, "ebhi_cancer")
    assert Counter(data.groups["grade"]).keys() == {*CLASSES[:5]} and {*cancer.groups["grade"]} == {CLASSES[5]}
    assert len(data.ids) == 92 and data.ids[0] == f"Normal_GTXC{PATIENTS[0]}-1-400-000"
    assert Counter(data.groups["patient"])[PATIENTS[0]] == 2 and len({*data.groups["patient"]}) == 50
    assert data.unmasked == {f"Low-grade-IN_GTGT{PATIENTS[2]}-2-400-001"}
    assert np.array_equal(data.native_classes(data.ids[0])[0], (EDGES >= 128).repeat(3))
    lines = describe(check_dataset(data))
    assert "of 50 patients and 51 slides (patients: 10 High-grade IN, 10 Low-grade IN, 10 Normal, 11 Polyp" in lines[1]
    assert lines[1].endswith("; 1 without a mask, which can only be unlabelled training images")


def test_a_patient_has_one_fold_in_every_subset_and_labels_come_by_patient(tree: Path, tmp_path: Path) -> None:
    whole, part = make_all(opened(tree, tmp_path)), tmp_path / "part" / "EBHI-SEG"
    shutil.copytree(tree, part, ignore=lambda _, names: [
        name for name in names if name.startswith("GT") and not in_quarter(name.lstrip("GTxcXC")[:7])])
    quarter = make_all(opened(part, tmp_path / "again"))
    assert [*whole] == ["quarter", "folds"] and [*quarter] == ["quarter"]
    assert whole["quarter"]["folds"] == quarter["quarter"]["folds"] and not whole["folds"]["draws"]
    cancer = make_all(opened(tree, tmp_path, "ebhi_cancer"))["folds"]["folds"]

    def of(names: list[str]) -> set[str]:
        return {name.split("_")[1].lstrip("GTXC")[:7] for name in names}

    for number, fold in enumerate(whole["folds"]["folds"]):
        assert of(quarter["quarter"]["folds"][number]["test"]) <= of(fold["test"])
        assert not of(fold["test"]) & of(fold["train"] + cancer[number]["train"])
        lists = [fold["labelled"][ratio] for ratio in ("5", "10", "20", "50")]
        for small, large, ratio in zip(lists[:-1], lists[1:], (10, 20, 50), strict=True):
            assert {*small} <= {*large} and -1 < len(large) - ratio / 100 * len(fold["train"]) < 3.5
        left = [name for name in fold["train"] if name not in {*lists[2], *fold.get("unmasked", ())}]
        assert not of(lists[2]) & of(left) and not of(lists[2]) & of(fold["validation"])


@pytest.fixture
def quarter(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the quarter, with its lists as committed; the patient at STRAY is of another quarter."""
    lists, part = tmp_path / "lists", tmp_path / "part" / "EBHI-SEG"
    monkeypatch.setattr("benchmark.data.dataset.splits_folder",
                        lambda name: (lists if name == "ebhi_gland" else CONFIGS / "splits") / name)
    shutil.copytree(tree, part, ignore=lambda _, names: [
        name for name in names if name.startswith("GT") and not in_quarter(name.lstrip("GTxcXC")[:7])])
    write(opened(part, tmp_path / "first"))
    assert [path.name for path in (lists / "ebhi_gland").iterdir()] == ["quarter.json"]
    return part


STRAY = next(patient for patient in PATIENTS[0::6] if not in_quarter(patient))  # of class Normal


def add_patient(part: Path) -> Path:
    """The path of an image of one more patient than the quarter has."""
    name = f"GTxc{STRAY}-1-400-000.png"
    for kind in ("image", "label"):
        save(part / "Normal" / kind / name, kind == "label")
    return part / "Normal" / "image" / name


def test_lists_of_a_part_fit_every_data_set_that_holds_its_images(quarter: Path, tmp_path: Path) -> None:
    def remarks(data: PreparedData) -> list[str]:
        return check_split_matches_data(load_split(data.dataset, "quarter", 20, 1), data)

    alone = opened(quarter, tmp_path / "1")
    extra = add_patient(quarter)
    more = opened(quarter, tmp_path / "2")
    part = more.part("quarter")
    assert alone.part("quarter") is alone and more.part("folds") is more and part.part("quarter") is part
    assert more.fingerprint != alone.fingerprint and len(more.ids) == len(alone.ids) + 1 == len(part.ids) + 1
    for key in ("ids", "groups", "fingerprint", "arrays_fingerprint", "native_sizes", "hashes", "unmasked", "tiles"):
        assert getattr(part, key) == getattr(alone, key), key
    assert np.array_equal(part.images[:], alone.images) and np.array_equal(part.masks[:], alone.masks)
    assert part.native_classes(part.ids[-1]).any()
    for data in (alone, more, part):
        assert remarks(data) == []
    assert current_fingerprint(more.dataset, "quarter", raw=quarter, root=tmp_path / "3") == alone.fingerprint
    assert "other pixels" not in "".join(compare(more)[1])
    made = make_all(more)["quarter"]
    assert made["dataset_fingerprint"] == alone.fingerprint
    Image.new("L", (18, 18)).save(extra.parent.parent / "label" / extra.name)  # the mask of an image in no list
    assert remarks(opened(quarter, tmp_path / "2")) == []
    path = next(path for path in sorted((quarter / "Normal" / "image").glob("GT*")) if path != extra)
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert "may differ" in remarks(opened(quarter, tmp_path / "2"))[0]


@pytest.mark.slow
def test_one_more_patient_than_the_part_changes_no_run_on_its_lists(
    quarter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = TINY | {"train.steps": 2, "evaluate.times": 1}
    runs = [Request("mean_teacher", "ebhi_gland", ratio=20, preset="demo", overrides=settings),
            Request("mean_teacher", "synthetic", ratio=10, preset="demo", overrides=settings | {
                "data.unlabelled": "ebhi_gland", "evaluate.also": "ebhi_gland"})]

    def made(results: str, prepared: str) -> list[dict]:
        monkeypatch.setenv("SEMIHISTO_PREPARED", str(tmp_path / prepared))
        return [run_or_load(run, RunOptions(tmp_path / results, str(quarter)))[0] for run in runs]

    before = made("r", "1")
    add_patient(quarter)
    after = made("again", "2")
    assert made("r", "2") == before, "the records are not stale"
    for old, new in zip(before, after, strict=True):
        for key in ("run_id", "data", "weights_sha256", "scores", "counts_sha256"):
            assert old[key] == new[key], key
        assert old.get("elsewhere") == new.get("elsewhere")
    path = next(path for path in sorted((quarter / "Polyp" / "image").glob("GT*")))
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    for run in runs:
        with pytest.raises(UserError, match="made from other images or masks"):
            run_or_load(run, RunOptions(tmp_path / "r", str(quarter)))


def test_an_incomplete_pool_is_said_to_be_so_and_its_masks_are_not_looked_for(quarter: Path, tmp_path: Path) -> None:
    pool = load_pool("ebhi_gland")
    own, lists = load_prepared("synthetic", 16), load_split(load_dataset("synthetic"), "official", 10, 0)

    def joined() -> Split:
        there = pool, load_split(pool, "quarter", 100, 0)
        return join(own, lists, [there], own=False, raw=quarter)[1]

    whole = joined().pool
    label = next((quarter / "Polyp" / "label").glob("GT*"))
    shutil.copy(label, label.with_name(f"GTxc{STRAY}-9-400-009.png"))  # a mask without its image
    shutil.copy(label, label.with_suffix(".bmp"))
    assert joined().pool == whole
    shutil.rmtree(quarter / "Polyp" / "label")
    assert joined().pool == whole
    lost = next((quarter / "Normal" / "image").glob("GT*"))
    lost.unlink()
    with pytest.raises(UserError, match=r"split 'quarter' needs the image Normal_GT.*; is the data set complete\?"):
        joined()


def test_one_patient_alone_is_labelled_and_leaves_none_for_validation() -> None:
    images = [ImageInfo(name, "train", "", "p") for name in "ba"]
    assert lists_by_patient(images, "k") == ({ratio: ["b", "a"] for ratio in (5, 10, 20, 50)}, [])


def rename(place: str, name: str) -> Callable[[Path], object]:
    return lambda top: next((top / place).glob("GT*")).rename(top / place / name)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no class": (lambda top: shutil.rmtree(top / "Polyp"), r"Polyp/image: no such folder; ebhi_gland needs image and"),
    "no labels": (lambda top: shutil.rmtree(top / "Normal" / "label"), "Normal/label: no such folder"),
    "no classes": (lambda top: [shutil.rmtree(top / name) for name in CLASSES], "no images of ebhi_gland .*--data"),
    "both spellings": (lambda top: save(top / "Normal" / "image" / f"GTXC{PATIENTS[0]}-1-400-000.png", False),
                       r"a second file for name GTXC2000000-1-400-000 beside GT.*; keep one"),
    "stray image": (lambda top: save(top / "Polyp" / "image" / "figure1.png", False),
                    r"figure1.png: its name does not say a patient"),
    "stray mask": (rename("Polyp/image", "x.txt"), r"Polyp/label/GT.*: a mask without its image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_layout_gets_one_clear_line(tree: Path, tmp_path: Path, case: str) -> None:
    spoil, words = WRONG[case]
    spoil(Path(shutil.copytree(tree, tmp_path / "EBHI-SEG")))
    with pytest.raises(UserError, match=words):
        opened(tmp_path, tmp_path / "prepared")


@pytest.mark.parametrize(("name", "images", "patients", "tested"), [
    ("ebhi_gland", 334, 70, [88, 116, 130]), ("ebhi_cancer", 199, 27, [53, 63, 83])])
def test_the_real_quarter(
    real_ebhi: Path, tmp_path: Path, name: str, images: int, patients: int, tested: list[int],
) -> None:
    data = opened(real_ebhi, tmp_path, name)
    assert (len(data.ids), len({*data.groups["patient"]}), len(data.unmasked)) == (images, patients, 0)
    assert compare(data) == (True, [f"{name}/quarter: the same lists"])
    assert data.fingerprint_of("quarter") == data.fingerprint, "as committed records have it"
    assert [len(load_split(data.dataset, "quarter", 20, fold).test) for fold in range(3)] == tested


@pytest.fixture
def kidneys(tmp_path: Path) -> Path:
    """Ten slides to train and one each to validate and test; masks are called in both ways."""
    for number in range(12):
        name, slide = {10: "val", 11: "test"}.get(number, "train"), f"12_{number}"
        for x in range(2):
            place, stem = tmp_path / "Task1_patch_level" / name / ("DN", "56Nx")[number % 2] / slide, f"{slide}_0_{x}"
            save(place / "img" / f"{stem}_img.jpg", False)
            save(place / "mask" / f"{stem}_{'mask' if number % 2 else 'img'}.jpg", True)
    return tmp_path


def test_kpi_has_official_sets_and_labels_whole_slides(kidneys: Path) -> None:
    data = opened(kidneys, kidneys / "prepared", "kpi")
    assert Counter(data.groups["set"]) == {"train": 20, "validation": 2, "test": 2}
    assert {*data.groups["grade"]} == {"DN", "56Nx"} and data.ids[0] == "12_1_0_0"
    mask = data.native_classes(data.ids[0])
    assert {*np.unique(mask)} == {0, 1} and not mask[:, :6].any() and mask[:, 14:].all()  # of a lossy file
    official = make_all(data)["official"]
    assert official["validation_held_out"] and official["folds"][0]["validation"] == ["12_10_0_0", "12_10_0_1"]
    for fold in official["folds"]:
        assert [len(names) for names in fold["labelled"].values()] == [2, 2, 4, 10]
        assert all(count == 2 for count in Counter(name[:-2] for name in fold["labelled"]["50"]).values())
    assert official["folds"][0]["labelled"] != official["folds"][1]["labelled"]


def test_kpi_is_the_same_where_each_set_is_unpacked_into_a_folder_of_its_own(kidneys: Path, tmp_path: Path) -> None:
    whole = opened(kidneys, tmp_path / "1", "kpi")
    for name, outer in (("train", "training"), ("val", "validation"), ("test", "test")):
        place = tmp_path / "raw" / "kpi" / f"{outer}_data_task1_patch_level"
        shutil.copytree(kidneys / "Task1_patch_level" / name, place / name)
    for raw in (tmp_path / "raw", tmp_path / "raw" / "kpi"):
        assert opened(raw, tmp_path / "2", "kpi").content == whole.content


def test_kpi_with_a_wrong_layout(kidneys: Path) -> None:
    with pytest.raises(UserError, match=r"no images of kpi under .*syn54077668.*--data"):
        opened(kidneys / "nowhere", kidneys, "kpi")
    slide = kidneys / "Task1_patch_level" / "train" / "56Nx" / "12_1"
    (slide / "mask" / "12_1_0_0_mask.jpg").unlink()
    with pytest.raises(UserError, match=r"12_1_0_0_img.jpg: its mask is missing"):
        opened(kidneys, kidneys, "kpi")
    shutil.rmtree(slide / "mask")
    with pytest.raises(UserError, match=r"12_1/mask: no such folder; it has the masks of"):
        opened(kidneys, kidneys, "kpi")
    assert load_dataset("kpi").threshold == 128
