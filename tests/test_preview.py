"""The contact sheet: a colour for each class, what has no mask, and what each image is in a split."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.config.schema import Labels
from benchmark.data.annotation import annotate
from benchmark.data.load import load_dataset, load_prepared, prepare_arrays
from benchmark.data.preview import COLOURS, GAP, LINE, ROLES, outlined, preview, role_of
from benchmark.data.splits import Split, load_split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from tests.conftest import invoke
from tests.own_folder import Generated

TILE = 64


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """Image `all` has three classes and unknown pixels, `none` has no mask; both are pink."""
    folder, pink = tmp_path_factory.mktemp("regions"), np.full((64, 64, 3), (230, 150, 200), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[4:30, 4:30], mask[34:60, 34:60], mask[:, 62:] = 1, 2, 255
    pictures = {"all é": (pink, mask), "none": (pink, np.full_like(mask, 255))}
    return prepare_arrays(Generated(("stroma", "gland", "vessel"), pictures), 64, folder, folder)


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(-1).sum())


def test_classes_have_colours_of_their_own_and_a_legend(tmp_path: Path, regions: PreparedData) -> None:
    sheet = drawn(preview(regions, tmp_path / "sheet.png", tile=TILE))
    top = sheet.shape[0] - (TILE + LINE + GAP)
    assert top > LINE, "there is a legend"
    for colour in COLOURS[:2]:
        assert count(sheet[:top], colour) > 80, "a swatch of the legend"
        assert 26 * 4 < count(sheet[top:], colour) < 26 * 4 * 2 + 20, "an outline, not the whole region"
    assert count(sheet, COLOURS[2]) == 0, "there are two classes beside the first"
    assert (sheet[top:top + TILE, -TILE - GAP:-GAP] == (230, 150, 200)).all(), "without a mask: no tint, no outline"
    tinted = tuple((value + 128) // 2 for value in (230, 150, 200))
    assert count(sheet[top:], tinted) == 2 * TILE, "unknown pixels are tinted"


def test_two_classes_look_as_always(tmp_path: Path) -> None:
    data = load_prepared("synthetic", 64)
    sheet = drawn(preview(data, tmp_path / "sheet.png", count=3, tile=TILE))
    assert sheet.shape == (GAP + TILE + LINE + GAP, GAP + 3 * (TILE + GAP), 3), "no legend"
    assert np.array_equal(sheet[GAP:GAP + TILE, GAP:GAP + TILE], outlined(data.images[0], data.masks[0], TILE))
    assert count(sheet, COLOURS[0]) > 100 and not any(count(sheet, colour) for colour in COLOURS[1:4])


def test_roles_of_a_split(tmp_path: Path) -> None:
    split = Split("s", 20, 0, ("a",), ("b", "c"), ("c", "d"), ("e",), "")
    assert [role_of(name, split) for name in "abcdef"] == [
        "labelled", "unlabelled", "unlabelled, validation", "validation", "test", "not used"
    ]
    data = load_prepared("synthetic", 64)
    lists = load_split(load_dataset("synthetic"), "official", 20, 1)
    ids = [lists.labelled[0], lists.test[0]]
    sheet = drawn(preview(data, tmp_path / "sheet.png", ids=ids, tile=TILE, split=lists))
    strip = sheet[GAP + TILE:GAP + TILE + LINE]
    for place, role in enumerate(("labelled", "test")):
        here = strip[:, GAP + place * (TILE + GAP):][:, :TILE]
        assert count(here, ROLES[role]) > TILE * LINE / 2


def test_the_command_shows_chosen_images(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    base = ("data", "preview", "synthetic", "--size", 64, "--output", path)
    result = invoke(*base, "--ids", "train_3, test_2", "--split", "official", "--fold", 2, "--ratio", 10)
    assert (result.returncode, result.stdout) == (0, f"{path}\n")
    assert drawn(path).shape[1] == GAP + 2 * (192 + GAP)
    for more, words in (
        (("--ids", "train_3,train_999"), "no image 'train_999'"), (("--split", "oficial"), "Did you mean 'official'?"),
        (("--count", 0), "ask for one at least"),
        (("--count", 3, "--ids", "train_1"), "not allowed with"),
    ):
        result = invoke(*base, *more)
        assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1


def test_sparse_labels_are_shown_as_training_sees_them(tmp_path: Path) -> None:
    base = ("data", "preview", "synthetic", "--size", 64, "--output", tmp_path / "sheet.png", "--labels", "sparse:0.3")
    name = load_split(load_dataset("synthetic"), "official", 20, 1).labelled[0]
    result = invoke(*base, "--ids", name, "--split", "official", "--fold", 1)
    assert result.returncode == 0, result.stderr
    data = load_prepared("synthetic", 64)
    sparse = annotate(data, (name,), Labels(0.3), 1)
    assert sparse is not None
    (row,) = data.rows(name)
    expected = outlined(data.images[row], sparse.masks[row], 192)
    assert np.array_equal(drawn(tmp_path / "sheet.png")[GAP:GAP + 192, GAP:GAP + 192], expected)
    assert "name a --split" in invoke(*base).stderr


def test_only_a_preview_is_written_over(tmp_path: Path, regions: PreparedData) -> None:
    path = preview(regions, tmp_path / "sheet.png", ids=["none"])
    assert preview(regions, path) == path
    Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(UserError, match="not a preview, so it is not overwritten"):
        preview(regions, path)
    assert Image.open(path).size == (9, 9)
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        preview(regions, path / "deeper.png")
