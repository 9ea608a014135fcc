"""Decode one image or mask file: the array it holds, or one line saying which file is wrong and how.

An image that its EXIF tag turns (as cameras and phones write it) is turned as viewers show it, and so is a mask.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from benchmark.errors import UserError

LOSSLESS = (".bmp", ".png", ".tif", ".tiff")  # of masks, unless grey values are compared with a threshold
EXTENSIONS = (*LOSSLESS, ".jpeg", ".jpg")  # of images
FORMATS = ("BMP", "PNG", "TIFF", "JPEG")  # nothing that starts another program or reads another file
MAX_PIXELS = 100_000_000  # a slide of this size should be cut into tiles first
MAX_EDGES = 0.2  # share of neighbouring pixels with two different ids; measured on GlaS masks: below 0.01
FEW = 8  # colours; a picture with no more is a mask, not a photograph

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class PixelDecoding:
    """How the image files of a data set become what networks see; a run keeps it, so that new images are read alike.

    range: the grey values that become black and white, of images of 16 bits. grey: colours become brightness."""

    range: tuple[int, int] | None = None
    grey: bool = False

    def read(self, path: Path, advice: str) -> np.ndarray:
        """uint8 [H, W, 3]. UserError: as `read_image`; `advice` is for an image of 16 bits without a range."""
        try:
            pixels = read_image(path, grey_range=self.range)
        except UserError:
            if self.range or read_levels(path) is None:
                raise
            raise UserError(f"{path}: 16 bits a pixel; {advice}") from None
        if self.grey and (pixels != pixels[..., :1]).any():
            # brightness by ITU-R BT.601, halves up
            grey = (pixels.astype(np.int64) @ np.array([299, 587, 114]) + 500) // 1000
            return np.repeat(grey.astype(np.uint8)[..., None], 3, -1)
        return pixels


def read_image(path: Path, *, grey_range: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 [H, W, 3]. Grey and palette images become RGB; an opaque alpha channel is dropped.

    grey_range: 0 <= low < high <= 65535, of images with one channel of 16 bits: low and less becomes 0, high and more
    255, what is between in proportion. Images of 8 bits are as without.
    UserError: not there, not an image, truncated, too large, more than one page, more than 8 bits (without
    `grey_range`, or in colour), CMYK, transparent.
    """
    decoded = _decode(path)
    image = decoded.image
    if image.mode.startswith("I") and grey_range is not None:
        return _eight_bits(np.asarray(image), *grey_range)
    _check_colours(decoded, path)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise UserError(f"{path}: has transparent pixels; save it without an alpha channel")
    return np.asarray(image.convert("RGB"))


def read_levels(path: Path) -> np.ndarray | None:
    """uint16 [H, W]: the numbers of a grey image of 16 bits; None for one of 8, which `read_image` reads.

    UserError: as for images, and for numbers outside 0..65535."""
    image = _decode(path).image
    return _sixteen_bits(image, path) if image.mode.startswith("I") else None


def read_mask(path: Path, *, lossy: bool = False) -> np.ndarray:
    """uint8 or uint16 [H, W]: the numbers in the file. A palette's indices are the numbers, its colours are not.

    lossy: a JPEG may be read, as its grey values will be compared with a threshold.
    UserError: as for images, for JPEG, for a coloured picture, which has no one number a pixel, and for an alpha
    channel that leaves open what a colour means (see `_colours_under_alpha`)."""
    decoded = _decode(path)
    image = decoded.image
    if not lossy:
        _check_lossless(decoded, path)
    if image.mode in ("1", "P"):
        return np.asarray(image, dtype=np.uint8)
    if image.mode.startswith("I"):
        return _sixteen_bits(image, path)
    if decoded.samples.startswith(("L;2", "L;4")):  # decoding has multiplied their numbers
        raise UserError(f"{path}: a mask with fewer than 8 bits a pixel; save it with 8")
    _check_colours(decoded, path)
    channels = np.asarray(image)[..., None] if image.mode == "L" else _colours_under_alpha(image, path)
    if (channels != channels[..., :1]).any():
        raise UserError(f"{path}: a mask in colours; save one channel, 0 for background and an id for each object")
    return np.ascontiguousarray(channels[..., 0])


def read_colour_mask(path: Path, colours: Sequence[Colour]) -> np.ndarray:
    """uint8 [H, W]: each pixel's place in `colours`, which are distinct (at most 256) RGB values of 8 bits.

    Only equal colours match; a palette's colours count, not its indices. UserError: as for `read_mask`, and for a
    colour that is not in the list: which, and the nearest that is."""
    pixels = colour_numbers(path)
    indices = np.zeros(pixels.shape, np.uint8)
    known = np.zeros(pixels.shape, bool)
    for index, colour in enumerate(colours):
        here = pixels == _packed(np.array(colour))
        indices[here] = index
        known |= here
    if known.all():
        return indices
    strange, counts = np.unique(pixels[~known], return_counts=True)
    wrong = _unpacked(strange[counts.argmax()])
    nearest = min(colours, key=lambda candidate: math.dist(candidate, wrong))
    raise UserError(f"{path}: the colour {wrong} in {counts.max()} pixels, of {len(strange)} such colours, is of no "
                    f"class; the nearest colour of a class is {nearest}; name its class, or save the mask without loss")


def colour_numbers(path: Path) -> np.ndarray:
    """uint32 [H, W]: the colours of a mask, 0xRRGGBB. UserError: as for `read_mask`."""
    decoded = _decode(path)
    _check_lossless(decoded, path)
    _check_colours(decoded, path)
    return _packed(_colours_under_alpha(decoded.image, path))


def looks_like_a_mask(path: Path) -> bool:
    """Whether an image can be read, has few colours and is larger than a thumbnail, so that it is no photograph."""
    try:
        pixels = read_image(path)
    except UserError:
        return False
    return pixels.shape[0] * pixels.shape[1] >= 256 and len(np.unique(_packed(pixels))) <= FEW


def check_ids(mask: np.ndarray, where: str) -> None:
    """UserError where a mask of object ids looks like a photograph: ids form regions, so neighbours mostly agree."""
    _check_integers(mask, where)
    if mask.size < 1024:  # a tiny mask may be all edges
        return
    edges = [np.count_nonzero(mask[:, 1:] != mask[:, :-1]), np.count_nonzero(mask[1:] != mask[:-1])]
    share = sum(edges) / (2 * mask.size - sum(mask.shape))
    if share > MAX_EDGES:
        raise UserError(f"{where}: not a mask of objects ({share:.0%} of neighbouring pixels differ, "
                        f"{len(np.unique(mask))} values); is it a photograph, or saved with loss?")


def check_classes(mask: np.ndarray, classes: int, where: str) -> None:
    """UserError where a mask of class indices holds another value than 0..classes-1 and 255 (ignore)."""
    _check_integers(mask, where)
    wrong = mask[(mask >= classes) & (mask != 255)]
    if wrong.size:
        shown = ", ".join(map(str, np.unique(wrong)[:5]))
        raise UserError(f"{where}: mask values {shown} in {wrong.size} pixels are outside the classes 0..{classes - 1} "
                        "(255 = ignore)")


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
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if getattr(image, "n_frames", 1) > 1:
                    raise UserError(f"{path}: holds {getattr(image, 'n_frames', 1)} pages; save a single image")
                samples = _samples(image)
                lossy = image.format == "JPEG" or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
                image.load()
                return _Decoded(ImageOps.exif_transpose(image), samples, lossy)
    except Image.DecompressionBombError:
        raise UserError(f"{path}: declares more than {MAX_PIXELS:,} pixels; cut it into tiles first") from None
    except Image.UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise UserError(f"{path}: {'empty file' if empty else 'not an image'} (expected BMP, PNG, TIFF or JPEG); "
                        "copy it again from the source") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        if isinstance(error, UserError):
            raise
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not readable, or a truncated or damaged image ({cause}); copy it again from the "
                        "source") from None


def _samples(image: ImageFile.ImageFile) -> str:
    """Asked for before decoding, which forgets it."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _check_lossless(decoded: _Decoded, path: Path) -> None:
    if decoded.lossy:
        raise UserError(f"{path}: a mask in JPEG, which smears its values; save it again from its source as PNG, or "
                        "give dataset.yaml a threshold for its grey values, as in gland: {from: 128}")


def _check_colours(decoded: _Decoded, path: Path) -> None:
    """Grey or RGB of 8 bits, or what becomes that without loss; Pillow would drop the lower half of 16-bit colours."""
    mode = decoded.image.mode
    if mode.startswith(("I", "F")) or ";16" in decoded.samples:
        raise UserError(f"{path}: {mode} pixels of more than 8 bits; save the image as 8-bit RGB")
    if mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise UserError(f"{path}: colour mode {mode} is not read; save the image as 8-bit RGB")


def _colours_under_alpha(image: Image.Image, path: Path) -> np.ndarray:
    """uint8 [H, W, 3]: the colours of a mask, also of its transparent pixels (alpha 0), as public masks of nuclei have
    them. UserError where transparent and other pixels share a colour: what it means depends on the alpha then."""
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image.convert("RGBA"))
    clear, colours = pixels[..., 3] == 0, _packed(pixels[..., :3])
    shared = np.intersect1d(colours[clear], colours[~clear])
    if len(shared):
        raise UserError(f"{path}: the colour {_unpacked(shared[0])} is transparent in some pixels and not in others, "
                        "so its meaning is open; save the mask without an alpha channel")
    return pixels[..., :3]


def _packed(colours: np.ndarray) -> np.ndarray:
    """Integers [..., 3] from 0 to 255 -> uint32 [...], 0xRRGGBB."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def _unpacked(number: np.integer) -> Colour:
    return int(number) >> 16, int(number) >> 8 & 255, int(number) & 255


def _sixteen_bits(image: Image.Image, path: Path) -> np.ndarray:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path}: values from {values.min()} to {values.max()}; they must lie in 0..65535")
    return values.astype(np.uint16)


def _eight_bits(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Grey values [H, W] -> uint8 [H, W, 3], by a table: 100 million pixels need no floating-point copy."""
    share = (np.clip(np.arange(65536), low, high) - low) * 510 + (high - low)  # halves up
    table = (share // (2 * (high - low))).astype(np.uint8)
    return np.stack([table[np.clip(values, 0, 65535)]] * 3, axis=-1)
