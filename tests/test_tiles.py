"""Tiles: they cover an image, and their predictions make it whole again."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from benchmark.data.dataset import boxes
from benchmark.data.load import load_prepared
from benchmark.data.store import PreparedData
from benchmark.training.stitch import class_map
from tests.own_folder import picture, write_folder

YAML = "name: large\nclasses: {background: 0, one: 1, two: 2}\ntile: {size: 32, overlap: 8}\n"


@pytest.mark.parametrize(("height", "width", "size", "overlap"), [
    (100, 130, 32, 0), (100, 130, 32, 8), (32, 32, 32, 8), (20, 90, 32, 31), (33, 64, 32, 0), (5, 6, 32, 4),
])
def test_boxes_cover_an_image_and_none_reaches_beyond_it(height, width, size, overlap):
    cut = boxes(height, width, size, overlap)
    times = np.zeros((height, width), int)
    for y, x, h, w in cut:
        assert 0 <= y <= y + h <= height and 0 <= x <= x + w <= width
        assert (h, w) == (min(size, height), min(size, width))
        times[y : y + h, x : x + w] += 1
    assert times.min() >= 1 and len(set(cut)) == len(cut)
    columns = sorted({x for _, x, _, _ in cut})
    assert all(left + size - right >= overlap for left, right in pairwise(columns))


def test_tiles_that_agree_give_the_whole_image_back():
    torch.manual_seed(0)
    whole = torch.randn(3, 50, 70)
    cut = boxes(50, 70, 24, 10)
    alone = torch.stack([whole[:, y : y + h, x : x + w] for y, x, h, w in cut])
    assert torch.equal(class_map(alone, cut, (50, 70)), whole.argmax(0).to(torch.uint8))


def test_where_tiles_disagree_the_one_whose_middle_is_nearer_decides():
    cut = boxes(4, 6, 4, 2)
    assert cut == [(0, 0, 4, 4), (0, 2, 4, 4)]
    sure = torch.tensor([[4.0, 0.0], [0.0, 4.0]])  # the first says class 0, the second class 1, equally sure
    tiles = sure[:, :, None, None].expand(2, 2, 8, 8)
    assert class_map(tiles, cut, (4, 6))[0].tolist() == [0, 0, 0, 1, 1, 1]
    surer = tiles * torch.tensor([1.0, 10.0])[:, None, None, None]
    assert class_map(surer, cut, (4, 6))[0].tolist() == [0, 0, 0, 1, 1, 1], "probabilities count, logits do not"


def test_one_box_gives_what_resizing_alone_gives():
    logits = torch.randn(1, 2, 16, 16)
    resized = functional.interpolate(logits, size=(40, 52), mode="bilinear", align_corners=False)
    assert torch.equal(class_map(logits, [(0, 0, 40, 52)], (40, 52)), resized[0].argmax(0).to(torch.uint8))


@pytest.fixture
def large(tmp_path: Path) -> PreparedData:
    folder = write_folder(tmp_path / "large", YAML, images=4, bare=1)
    image, truth = picture(7, 3, 70, 90)
    Image.fromarray(image).save(folder / "images" / "big.png")
    Image.fromarray(truth).save(folder / "masks" / "big.png")
    return load_prepared(str(folder), 16, root=tmp_path / "prepared")


def test_rows_are_tiles_and_all_else_is_an_image(large: PreparedData):
    assert large.ids == ("A_0", "B_1", "C_2", "D_3", "big")
    counts = [len(boxes(*size, 32, 8)) for size in large.native_sizes]
    assert [len(large.rows(name)) for name in large.ids] == counts == [2 * 2] * 4 + [3 * 4]
    assert len(large.images) == len(large.masks) == sum(counts) and large.rows("big") == range(16, 28)
    assert large.rows_of(["B_1", "A_0"]) == [4, 5, 6, 7, 0, 1, 2, 3]
    assert len(large.groups["set"]) == len(large.hashes) == 5 and large.native_classes("big").shape == (70, 90)
    truth = picture(7, 3, 70, 90)[1]
    for row, (y, x, h, w) in zip(large.rows("big"), large.boxes("big"), strict=True):
        cut = np.asarray(Image.fromarray(truth[y : y + h, x : x + w]).resize((16, 16), Image.Resampling.NEAREST))
        assert np.array_equal(large.masks[row], cut)
    assert (large.masks[large.rows_of(["D_3"])] == 255).all(), "it has no mask"


def test_an_image_of_tiles_can_be_looked_at_whole(large: PreparedData):
    image, mask = large.picture("big")
    assert image.shape == (16, 16, 3) and set(np.unique(mask)) == {0, 1, 2}
    small = np.asarray(Image.fromarray(picture(7, 3, 70, 90)[0]).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(image.astype(int) - small).mean() < 10


def test_tiles_fit_into_a_picture_whatever_the_rounding(tmp_path: Path):
    folder = write_folder(tmp_path / "tall", YAML.replace("32, overlap: 8", "600, overlap: 50"), images=2, bare=0)
    for part, made in zip(("images", "masks"), picture(0, 3, 1092, 52), strict=True):  # 96 / 1092 * 1092 is above 96
        Image.fromarray(made).save(folder / part / "A_0.png")
    assert load_prepared(str(folder), 96, root=tmp_path / "prepared").picture("A_0")[0].shape == (96, 96, 3)
