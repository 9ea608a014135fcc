"""Decoding: what a viewer shows is what is read, a mask's numbers are kept, and a bad file is one clear line.

tests/test_prepare.py has what a whole data set meets: truncated, empty and huge files, pages, folders named as images.
"""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import images
from benchmark.data.images import (
    PixelDecoding,
    colour_numbers,
    is_blank_tile,
    looks_like_a_mask,
    packed,
    read_image,
    read_mask,
    unpacked,
)
from tests.conftest import complaint

ORIENTATION = 0x0112  # EXIF
ROWS, COLUMNS = np.mgrid[:48, :64]
IDS = np.where((ROWS // 16 + COLUMNS // 16) % 2, ROWS // 16 * 4 + COLUMNS // 16 + 1, 0).astype(np.uint8)
PHOTO = np.stack([ROWS * 5, COLUMNS * 3, (ROWS + COLUMNS) * 2], -1).astype(np.uint8)
Turn = Callable[[np.ndarray], np.ndarray]
WHITE, RED, BLUE = (255, 255, 255), (200, 0, 0), (0, 0, 250)


def write(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize(("orientation", "upright"), [(3, lambda array: array[::-1, ::-1]), (8, np.rot90)])
def test_exif_turns_an_image_and_its_mask(tmp_path: Path, extension: str, orientation: int, upright: Turn) -> None:
    for array, read in ((PHOTO, read_image), (IDS, read_mask)):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        path = write(tmp_path / f"a.{extension}", array, exif=exif)
        assert np.array_equal(read(path), upright(array))


def test_images_may_be_jpeg_but_masks_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpeg", PHOTO, quality=95)
    assert np.abs(read_image(path).astype(int) - PHOTO).mean() < 3
    assert {".jpg", ".jpeg"} == {*images.EXTENSIONS} - {*images.LOSSLESS}
    masked = write(tmp_path / "mask.jpg", IDS * 20)
    assert np.abs(read_mask(masked, lossy=True).astype(int) - IDS * 20).max() < 100
    misnamed = masked.rename(tmp_path / "mask.png")
    inside = write(tmp_path / "mask.tif", IDS * 20, compression="jpeg")
    for path in (misnamed, inside):
        for read in (read_mask, colour_numbers):
            assert "JPEG, which smears" in complaint(read, path)


def test_palettes(tmp_path: Path) -> None:
    picture = Image.fromarray(IDS % 3).convert("P")
    picture.putdata((IDS % 3).ravel().tolist())
    picture.putpalette([*WHITE, *RED, *BLUE])
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), IDS % 3), "indices are the ids of objects"
    assert np.array_equal(colour_numbers(tmp_path / "a.png"), packed(np.array([WHITE, RED, BLUE]))[IDS % 3])
    assert set(map(tuple, read_image(tmp_path / "a.png").reshape(-1, 3).tolist())) == {WHITE, RED, BLUE}
    picture.save(tmp_path / "c.png", transparency=1)
    assert "transparent" in complaint(read_image, tmp_path / "c.png")
    Image.fromarray(np.dstack([(IDS % 3 > 0) * np.uint8(255)] * 3)).quantize(2).save(tmp_path / "d.png")
    assert "a lower number is brighter" in complaint(read_mask, tmp_path / "d.png"), "white is number 0"
    assert np.array_equal(colour_numbers(tmp_path / "d.png") > 0, IDS % 3 > 0)


def as_image(grey: np.ndarray, **jpeg: object) -> np.ndarray:
    """A grey picture as read from a file, in JPEG where options are given."""
    file = BytesIO()
    Image.fromarray(grey).save(file, "JPEG" if jpeg else "PNG", **jpeg)
    return np.asarray(Image.open(file).convert("RGB"))


def test_a_mask_is_known_by_equal_neighbours_whatever_its_edges_and_a_grey_image_is_none() -> None:
    rows, columns = np.mgrid[:160, :160]
    disk = ((rows - 90) ** 2 + (columns - 70) ** 2 < 50**2).astype(np.uint8) * 255
    smooth = np.asarray(Image.fromarray(disk).resize((400, 400), Image.Resampling.BICUBIC))
    ids = (rows // 20 * 8 + columns // 20).astype(np.uint8)
    colours = np.array([[0, 0, 0], [255, 0, 0]], np.uint8)[disk // 255]
    masks = {"binary": as_image(disk), "grey edges": as_image(smooth), "JPEG": as_image(disk, quality=75),
             "constant": as_image(np.full_like(disk, 253)), "many ids": as_image(ids), "colours": colours}
    assert len(np.unique(masks["grey edges"])) > 8 and len(np.unique(ids)) == 64
    tissue = 150 + 60 * np.sin(rows / 9) * np.cos(columns / 7) + np.random.default_rng(0).normal(0, 8, rows.shape)
    grey = np.clip(tissue, 0, 255).astype(np.uint8)
    half = np.where(columns < 100, 255, grey)  # more than half of it is glass
    pictures = {"grey": as_image(grey), "grey JPEG": as_image(grey, quality=75), "glass": as_image(half)}
    found = {name: looks_like_a_mask(image) for name, image in {**masks, **pictures}.items()}
    assert [name for name, taken in found.items() if taken] == [*masks]
    assert [name for name, image in masks.items() if is_blank_tile(image)] == ["constant"]


def test_tiles_with_little_tissue_are_told_from_masks() -> None:
    rng = np.random.default_rng(0)
    glass = (np.array([243, 241, 244]) + rng.normal(0, 2, (160, 160, 3))).astype(np.uint8)
    corner = glass.copy()
    corner[110:, 110:] = np.clip(rng.normal(150, 30, (50, 50, 3)), 0, 255)
    tiles = []
    for tile in (glass, corner):
        Image.fromarray(tile).save(file := BytesIO(), "JPEG", quality=30)  # as many slides are stored
        tiles.append(np.asarray(Image.open(file)))
    assert [(looks_like_a_mask(tile), is_blank_tile(tile)) for tile in tiles] == [(True, True)] * 2
    few = np.repeat(np.arange(5, dtype=np.uint8), 32)[:, None, None] * np.ones((1, 160, 3), np.uint8)
    assert looks_like_a_mask(few) and not is_blank_tile(few), "classes 0 to 4 are near each other, too"


@pytest.mark.slow
def test_every_real_mask_is_known_and_no_real_image_is_taken_for_one(real_glas: Path, real_ebhi: Path) -> None:
    folders = (real_glas / "glas", real_ebhi / "ebhi-seg")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in images.EXTENSIONS]
    masks = {path for path in files if path.stem.endswith("_anno") or path.parent.name == "label"}
    taken = {path for path in files if looks_like_a_mask(read_image(path))}
    assert taken == masks and len(masks) == len(files) / 2 == 698


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_the_colour_under_the_alpha_decides(tmp_path: Path, mode: str) -> None:
    """Public masks of nuclei have alpha 0 on the background. Where a colour is both clear and not, it is open."""
    shape = np.where(IDS > 0, 255, 0).astype(np.uint8)
    def masked(grey: np.ndarray, alpha: np.ndarray) -> Path:
        channels = [grey, alpha] if mode == "LA" else [grey, grey, grey, alpha]
        return write(tmp_path / "a.png", np.dstack(channels))

    for grey, alpha in ((shape, shape), (shape, 255 - shape), (shape, np.full_like(shape, 255)), (IDS, shape // 2)):
        assert np.array_equal(read_mask(masked(grey, alpha)), grey)
    assert np.array_equal(colour_numbers(masked(shape, shape)), np.where(shape > 0, 0xFFFFFF, 0))
    for grey in (np.zeros_like(shape), np.where(ROWS < 24, shape, 0).astype(np.uint8)):
        assert "transparent in some pixels and not in others" in complaint(read_mask, masked(grey, shape))
    assert "transparent" in complaint(read_image, masked(shape, shape)), "an image has no second meaning"


def test_the_pixels_that_a_file_declares_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", PHOTO[..., 0].size - 1)
    assert "declares more than 3,071 pixels; cut it" in complaint(read_image, write(tmp_path / "a.png", PHOTO))


def test_bilevel_and_colour_masks(tmp_path: Path) -> None:
    Image.fromarray(IDS > 0).save(tmp_path / "bilevel.png")
    assert np.array_equal(read_mask(tmp_path / "bilevel.png"), IDS > 0)
    colours = [WHITE, RED, BLUE]
    coloured = np.array(colours, np.uint8)[IDS % 3]
    numbers = colour_numbers(write(tmp_path / "a.png", coloured))
    assert np.array_equal(numbers, packed(np.array(colours))[IDS % 3])
    assert unpacked(numbers[1, 0]) == tuple(coloured[1, 0])
    assert not colour_numbers(write(tmp_path / "c.png", np.zeros((4, 4), np.uint8))).any()


def test_grey_range(tmp_path: Path) -> None:
    deep = (ROWS * 64 + COLUMNS).astype(np.uint16)
    for name, array in (("a.png", deep), ("a.tif", deep), ("b.tif", deep.astype(np.int32))):
        path = write(tmp_path / name, array)
        text = complaint(read_image, path)
        assert "16 bits a pixel; say in dataset.yaml" in text and "range: [0, 65535]" in text
        grey = read_image(path, PixelDecoding((500, 2500)))
        expected = np.floor(np.clip((deep.astype(float) - 500) / 2000, 0, 1) * 255 + 0.5)
        assert grey.dtype == np.uint8 and grey.shape == (48, 64, 3) and np.array_equal(grey[..., 0], expected)
        assert (grey == grey[..., :1]).all()
    assert np.array_equal(read_image(write(tmp_path / "c.png", PHOTO), PixelDecoding((0, 4095))), PHOTO), "8 bits stay"
    floating = write(tmp_path / "d.tif", deep.astype(np.float32))
    assert "F pixels" in complaint(read_image, floating, PixelDecoding((0, 4095)))


def test_sixteen_bit_colours_are_not_cut_in_silence(tmp_path: Path) -> None:
    """Pillow reads them and does not write them."""
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + bytes(range(12))))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    for read in (read_image, read_mask, colour_numbers):
        assert "of 16 bits a channel" in complaint(read, tmp_path / "a.png")
