"""CRAG's adapter on a made-up tree of its layout: the real files are not at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import splits
from benchmark.data.load import load_dataset, load_prepared
from benchmark.data.make_splits import compare
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from tests.conftest import demo_run, one_line_error

NUMBERS = {"train": (1, 2, 3, 10, 11, 12, 20, 21), "valid": (1, 2, 3)}
SIDE = 40


def picture(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its gland ids: one gland of id 7, or two of ids 1 and 300."""
    rows, columns = np.mgrid[:SIDE, : SIDE + 4]
    ids = np.zeros(rows.shape, np.uint16)
    for gland, place in (((1, 10), (300, 30)) if number % 2 else ((7, 20),)):
        ids[(rows - 20) ** 2 + (columns - place) ** 2 < 60] = gland
    image = np.stack([220 - 90 * (ids > 0), 150 + 0 * rows, 100 + number + columns], -1)
    return image.astype(np.uint8), ids


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for folder, numbers in NUMBERS.items():
        for part in ("Images", "Annotation", "Overlay"):
            (tmp_path / "raw" / "CRAG" / folder / part).mkdir(parents=True)
        for number in numbers:
            name = f"{'train' if folder == 'train' else 'test'}_{number}.png"
            for part, array in zip(("Images", "Annotation"), picture(number), strict=True):
                Image.fromarray(array).save(tmp_path / "raw" / "CRAG" / folder / part / name)
    return tmp_path / "raw"


def opened(tmp_path: Path, raw: Path) -> PreparedData:
    return load_prepared("crag", 32, raw=raw, root=tmp_path / "prepared")


def test_the_two_folders_are_training_and_test_images_in_order_of_their_numbers(tmp_path: Path, raw: Path) -> None:
    (raw / "CRAG" / "train" / "Images" / "._train_1.png").write_bytes(b"of a Mac")
    (raw / "CRAG" / "train" / "Images" / "Thumbs.db").write_bytes(b"of Windows")
    data = opened(tmp_path, raw)
    assert data.ids == (*(f"train_{number}" for number in NUMBERS["train"]), "test_1", "test_2", "test_3")
    assert data.groups == {"set": ("train",) * 8 + ("test",) * 3}
    assert data.native_sizes == ((SIDE, SIDE + 4),) * 11 and set(np.unique(data.masks)) == {0, 1}
    assert np.array_equal(data.native("train_11"), picture(11)[1]) and data.native("train_11").max() == 300


def test_it_is_found_by_its_folders(tmp_path: Path, raw: Path) -> None:
    assert load_dataset("crag").find(raw) == raw / "CRAG" == load_dataset("crag").find(raw / "CRAG")
    with pytest.raises(UserError, match=r"no images of crag under .*nowhere.*research only.*nowhere/crag.*--data"):
        opened(tmp_path, tmp_path / "nowhere")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no masks' folder": (lambda crag: (crag / "valid" / "Annotation").rename(crag / "valid" / "masks"),
                         "no images of crag"),
    "lost mask": (lambda crag: (crag / "train" / "Annotation" / "train_3.png").unlink(),
                  r"train/Images/train_3.png: its mask is missing$"),
    "lost images": (lambda crag: [(crag / "train" / "Images" / f"train_{n}.png").unlink() for n in (3, 10)],
                    r"train/Annotation/train_3.png and 1 more: a mask without its image"),
    "two files": (lambda crag: (crag / "train" / "Images" / "train_03.png").write_bytes(b""),
                  r"train_3.png: a second file for number 3 beside train_03.png"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_layout_gets_one_clear_line(tmp_path: Path, raw: Path, case: str) -> None:
    spoil, words = WRONG[case]
    spoil(raw / "CRAG")
    with pytest.raises(UserError, match=words):
        opened(tmp_path, raw)


def test_the_official_and_the_published_lists_are_here() -> None:
    crag = load_dataset("crag")
    assert splits.split_names(crag) == ["official", "published"]
    official, published = (splits.load_split(crag, name, 10, 0) for name in ("official", "published"))
    assert [len(part) for part in (official.labelled, official.unlabelled, official.validation, official.test)] == [
        17, 156, 35, 40]
    assert [len(part) for part in (published.labelled, published.unlabelled, published.validation)] == [16, 137, 20]
    larger = splits.load_split(crag, "published", 20, 0)
    assert published.test == official.test and len(larger.unlabelled) == 122
    assert set(published.labelled) < set(larger.labelled) and not set(larger.labelled) & set(larger.validation)


def test_the_lists_that_images_give_are_the_ones_that_are_here(tmp_path: Path) -> None:
    """They follow from the names, whatever is in the masks."""
    for folder, name, count in (("train", "train", 173), ("valid", "test", 40)):
        for number in range(1, count + 1):
            for part, array in zip(("Images", "Annotation"), picture(number), strict=True):
                place = tmp_path / "crag" / folder / part
                place.mkdir(parents=True, exist_ok=True)
                blank = part == "Annotation" and number % 7 == 0
                Image.fromarray(array * (not blank)).save(place / f"{name}_{number}.png")
    data = load_prepared("crag", 16, raw=tmp_path / "crag", root=tmp_path / "prepared")
    assert compare(data) == (True, ["crag/official: the same lists", "crag/published: the same lists"])
    assert splits.check_split_matches_data(splits.load_split(data.dataset, "official", 20, 1), data) == []


def test_a_run_says_which_images_are_lacking(tmp_path: Path, raw: Path) -> None:
    told = one_line_error(demo_run(tmp_path / "results", "supervised", "--data", raw, dataset="crag"))
    assert "split 'official' needs the image train_5 and 201 more" in told
