"""Decode one image or mask file: the array it holds, or one line saying which file is wrong and how.

An image that its EXIF tag turns (as cameras and phones write it) is turned as viewers show it, and so is a mask.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from benchmark.errors import UserError

LOSSLESS = (".bmp", ".png", ".tif", ".tiff")  # of masks: a JPEG's values are smeared
EXTENSIONS = (*LOSSLESS, ".jpeg", ".jpg")  # of images
FORMATS = ("BMP", "PNG", "TIFF", "JPEG")  # nothing that starts another program or reads another file
LARGEST = 100_000_000  # pixels; a slide of this size should be cut into tiles first
BUSY = 0.2  # share of neighbouring pixels with two different ids; measured on GlaS masks: below 0.01
# Pixels like none of their four neighbours, per pair of neighbours that differ. GlaS masks: at most 0.004, and 0.03
# resized by nearest neighbour to 96 px; the same in black and white: 0.20 at least after JPEG, 0.26 resized smoothly.
SMEARED = 0.1
FEW = 8  # values; a mask with no more is not taken for a smeared one
SCALED = {"L;2": 85, "L;4": 17}  # by how much Pillow multiplies grey values of fewer than 8 bits

Colour = tuple[int, int, int]


def read_image(path: Path, *, high_range: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 [H, W, 3]. Grey and palette images become RGB; an opaque alpha channel is dropped.

    high_range: the lowest and highest grey value, 0 <= low < high <= 65535, of images with one channel of more than
    8 bits: low and less becomes 0, high and more 255, what is between in proportion. Images of 8 bits are as without.
    UserError: not there, not an image, truncated, too large, more than one page, more than 8 bits (without
    `high_range`, or in colour), CMYK, transparent.
    """
    decoded = _decode(path)
    image = decoded.image
    if image.mode.startswith("I"):
        if high_range is None:
            raise UserError(f"{path}: {image.mode} pixels of more than 8 bits; save the image as 8-bit RGB, or say "
                            "which range of grey values to read")
        return _eight_bits(np.asarray(image), *high_range)
    _check_colours(decoded, path)
    return np.asarray(_opaque(image, path).convert("RGB"))


def read_levels(path: Path) -> np.ndarray | None:
    """uint16 [H, W]: the numbers of a grey image of 16 bits; None for one of 8, which `read_image` reads.

    UserError: as for images, and for numbers outside 0..65535."""
    image = _decode(path).image
    if not image.mode.startswith("I"):
        return None
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path}: grey values from {levels.min()} to {levels.max()}; they must lie in 0..65535")
    return levels.astype(np.uint16)


def read_mask(path: Path) -> np.ndarray:
    """uint8 or uint16 [H, W]: the numbers in the file. A palette's indices are the numbers, its colours are not.

    UserError: as for images, for JPEG, and for a coloured picture, which has no one number a pixel."""
    decoded = _decode(path)
    image = decoded.image
    _check_lossless(decoded, path)
    if image.mode == "P":
        _check_palette(image, path)
        return np.asarray(image)
    if image.mode == "1":
        return np.asarray(image, dtype=np.uint8)
    if image.mode == "L":
        return np.asarray(image) // SCALED.get(decoded.samples[:3], 1)
    if image.mode.startswith("I"):
        ids = np.asarray(image)
        if ids.min() < 0 or ids.max() > np.iinfo(np.uint16).max:
            raise UserError(f"{path}: mask values from {ids.min()} to {ids.max()}; they must lie in 0..65535")
        return ids.astype(np.uint16)
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise UserError(f"{path}: colour mode {image.mode} is not read as a mask; save one 8-bit channel of ids")
    _check_colours(decoded, path)
    channels = np.asarray(_opaque(image, path).convert("RGB"))
    if (channels != channels[..., :1]).any():
        raise UserError(f"{path}: a mask in colours; save one channel, 0 for background and an id for each object")
    return np.ascontiguousarray(channels[..., 0])


def read_colour_mask(path: Path, colours: Sequence[Colour]) -> np.ndarray:
    """uint8 [H, W]: each pixel's place in `colours`, which are distinct (at most 256) RGB values of 8 bits.

    Only equal colours match; a palette's colours count, not its indices. UserError: as for images, for JPEG, and for
    a colour that is not in the list: which, how often, where, and the nearest that is."""
    decoded = _decode(path)
    _check_lossless(decoded, path)
    _check_colours(decoded, path)
    pixels = numbers_of(np.asarray(_opaque(decoded.image, path).convert("RGB")))
    indices = np.zeros(pixels.shape, np.uint8)
    known = np.zeros(pixels.shape, bool)
    for index, colour in enumerate(colours):
        here = pixels == numbers_of(np.array(colour))
        indices[here] = index
        known |= here
    if known.all():
        return indices
    strange, counts = np.unique(pixels[~known], return_counts=True)
    number = int(strange[counts.argmax()])
    row, column = np.argwhere(pixels == number)[0]
    wrong = number >> 16, number >> 8 & 255, number & 255
    nearest = min(colours, key=lambda candidate: math.dist(candidate, wrong))
    others = f", and {len(strange) - 1} more such colours" if len(strange) > 1 else ""
    raise UserError(f"{path}: the colour {wrong} is of no class ({counts.max()} pixels, the first at row {row}, "
                    f"column {column}, from 0{others}); the nearest colour of a class is {nearest}; name its "
                    "class, or save the mask without smoothing and loss")


def numbers_of(colours: np.ndarray) -> np.ndarray:
    """Integers [..., 3] from 0 to 255 -> uint32 [...], a number for each colour."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def check_ids(mask: np.ndarray, where: str) -> None:
    """UserError where a mask of object ids looks like a photograph, or smeared: ids form regions, so neighbours mostly
    agree, and hardly a pixel is like none of its neighbours."""
    _check_integers(mask, where)
    beside, below = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edges = np.count_nonzero(beside) + np.count_nonzero(below)
    if mask.size < 1024:  # a tiny mask may be all edges; this is about pictures that were saved in the place of a mask
        return
    if edges / (beside.size + below.size) > BUSY:
        raise UserError(f"{where}: not a mask of objects ({edges / (beside.size + below.size):.0%} of neighbouring "
                        f"pixels differ, {len(np.unique(mask))} values); is it a photograph, or saved with loss?")
    alone = np.ones(mask.shape, bool)
    for differs, one, other in ((beside, np.s_[:, 1:], np.s_[:, :-1]), (below, np.s_[1:], np.s_[:-1])):
        alone[one] &= differs
        alone[other] &= differs
    lonely = np.count_nonzero(alone)
    if lonely > SMEARED * edges and lonely > (values := len(np.unique(mask))) > FEW:
        raise UserError(f"{where}: a smeared mask ({values} values, {lonely} pixels like none of their neighbours); it "
                        "was saved as JPEG or resized smoothly before; save it again from its source")


def check_classes(mask: np.ndarray, classes: int, where: str) -> None:
    """UserError where a mask of class indices holds another value than 0..classes-1 and 255 (ignore)."""
    _check_integers(mask, where)
    wrong = (mask >= classes) & (mask != 255)
    if wrong.any():
        values = [int(value) for value in np.unique(mask[wrong])]
        shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
        row, column = np.argwhere(wrong)[0]
        raise UserError(f"{where}: mask values {shown} are outside the classes 0..{classes - 1} (255 = ignore), in "
                        f"{np.count_nonzero(wrong)} pixels, the first at row {row}, column {column}, from 0")


def _check_integers(mask: np.ndarray, where: str) -> None:
    if mask.ndim != 2 or mask.size == 0 or mask.dtype.kind not in "bui":
        raise UserError(f"{where}: a mask must be integers [H, W], not {mask.dtype} {list(mask.shape)}")


class _Decoded(NamedTuple):
    image: Image.Image  # upright
    samples: str  # Pillow's word for how they lie in the file, as "L;4" or "RGB;16B"
    lossy: bool


def _decode(path: Path) -> _Decoded:
    if not path.is_file():
        raise UserError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Given a path, Pillow (13.0) maps uncompressed TIFF that are turned with their sides mixed up.
            with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as image:
                _check_size(image, path)
                if getattr(image, "n_frames", 1) > 1:
                    raise UserError(f"{path}: holds {getattr(image, 'n_frames', 1)} pages; save a single image")
                samples = _samples(image)
                lossy = image.format == "JPEG" or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
                image.load()
                return _Decoded(ImageOps.exif_transpose(image), samples, lossy)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{path}: declares more than {LARGEST:,} pixels; cut it into tiles first") from None
    except Image.UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise UserError(f"{path}: {'empty file' if empty else 'not an image'} (expected BMP, PNG, TIFF or JPEG); "
                        "copy it again from the source") from None
    except PermissionError:
        raise UserError(f"{path}: not readable (permission denied)") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: truncated or damaged image ({cause}); copy it again from the source") from None


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > LARGEST:
        raise UserError(f"{path}: declares {width} x {height} pixels, more than {LARGEST:,}; cut it into tiles first")


def _samples(image: ImageFile.ImageFile) -> str:
    """Asked for before decoding, which forgets it."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _check_lossless(decoded: _Decoded, path: Path) -> None:
    if decoded.lossy:
        raise UserError(f"{path}: a mask in JPEG, which smears its values; save it again from its source as PNG")


def _check_colours(decoded: _Decoded, path: Path) -> None:
    """Grey or RGB of 8 bits, or what becomes that without loss; Pillow would drop the lower half of 16-bit colours."""
    mode = decoded.image.mode
    if mode.startswith(("I", "F")) or ";16" in decoded.samples:
        raise UserError(f"{path}: {mode} pixels of more than 8 bits; save the image as 8-bit RGB")
    if mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise UserError(f"{path}: colour mode {mode} is not read; save the image as 8-bit RGB")


def _eight_bits(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Grey values [H, W] -> uint8 [H, W, 3], by a table: 100 million pixels need no floating-point copy."""
    if not 0 <= low < high <= 65535:
        raise UserError(f"grey values from {low} to {high}: must be 0 <= low < high <= 65535")
    share = (np.clip(np.arange(65536), low, high) - low) * 510 + (high - low)  # halves up
    table = (share // (2 * (high - low))).astype(np.uint8)
    return np.stack([table[np.clip(values, 0, 65535)]] * 3, axis=-1)


def _opaque(image: Image.Image, path: Path) -> Image.Image:
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise UserError(f"{path}: has transparent pixels; save it without an alpha channel")
    return image


def _check_palette(image: Image.Image, path: Path) -> None:
    """Index 0 must be the background. A palette sorted by frequency may have black, which is 0, elsewhere."""
    palette = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    black = [int(index) for index in np.unique(np.asarray(image)) if index < len(palette) and not palette[index].any()]
    if black and black[0] != 0 and palette[0].any():
        raise UserError(f"{path}: a palette mask whose black is index {black[0]}, not 0; save the ids as grey values")
