"""Decode one image or mask file: the array it holds, or one line saying which file is wrong and how.

An image that its EXIF tag turns (as cameras and phones write it) is turned as viewers show it, and so is a mask.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmark.errors import UserError, listed

LOSSLESS = (".bmp", ".png", ".tif", ".tiff")  # of masks, unless grey values are compared with a threshold
EXTENSIONS = (*LOSSLESS, ".jpeg", ".jpg")  # of images
FORMATS = ("BMP", "PNG", "TIFF", "JPEG")  # nothing that starts another program or reads another file
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L")  # Pillow's; "I" is grey of 16 bits or more
MAX_PIXELS = 100_000_000  # a slide of this size should be cut into tiles first
MAX_EDGES = 0.2  # share of neighbouring pixels with two different ids; measured on GlaS masks: below 0.01
ALIKE = 0.75  # share of neighbouring pixels of one colour; measured: masks from 0.86 (EBHI-Seg), images up to 0.2
GLASS_SPREAD = 32  # grey levels between the extremes of a channel; JPEG of qualities 30 to 90 leaves up to 12
MASK_COLOURS = 256  # a grey mask has no more; a corner of tissue in a tile of 256 px has thousands

Colour = tuple[int, int, int]
Seen = dict[int, tuple[list[int], Path]]  # number of a palette -> its colour, and the first mask with it


class PalettesDiffer(UserError):
    """A number of a mask's palette has another colour than in a mask read before."""


class PixelDecoding(NamedTuple):
    """How the image files of a data set become what networks see; a run keeps it, so that new images are read alike.

    range: low < high, of grey images of 16 bits: low and less becomes 0, high and more 255, what is between in
    proportion. grey: colours become brightness."""

    range: tuple[int, int] | None = None
    grey: bool = False


PLAIN = PixelDecoding()
ADVICE = ("say in dataset.yaml what becomes black and white, as in range: [0, 65535] ('data new' measures it), or save "
          "it as RGB of 8 bits")


def read_image(path: Path, decoding: PixelDecoding = PLAIN, advice: str = ADVICE) -> np.ndarray:
    """uint8 [H, W, 3]. Grey and palette images become RGB; an opaque alpha channel is dropped.

    UserError: not there, not an image, truncated, too large, more than one page, colours of 16 bits, grey of 16 bits
    without a range (with this advice), transparent."""
    image = _decode(path)
    if image.mode.startswith("I"):
        if decoding.range is None:
            raise UserError(f"{path}: 16 bits a pixel; {advice}")
        low, high = decoding.range
        share = (np.clip(np.arange(1 << 16), low, high) - low) * 510 + (high - low)  # halves up
        table = (share // (2 * (high - low))).astype(np.uint8)
        return np.stack([table[_sixteen_bits(image, path)]] * 3, axis=-1)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise UserError(f"{path}: has transparent pixels; save it without an alpha channel")
    pixels = np.asarray(image.convert("RGB"))
    if decoding.grey and (pixels != pixels[..., :1]).any():
        # brightness by ITU-R BT.601, halves up
        grey = (pixels.astype(np.int64) @ np.array([299, 587, 114]) + 500) // 1000
        return np.stack([grey.astype(np.uint8)] * 3, axis=-1)
    return pixels


def is_hidden(place: Path) -> bool:
    """Whether a file, by its place in a data set's folder, is passed over: its name or a folder's begins with a dot."""
    return any(part[0] == "." for part in place.parts)


def misnamed(path: Path) -> UserError:
    """What is said of a name that cannot be an image's id."""
    return UserError(f"{path.parent / repr(path.name)}: an image cannot be called so; give it a plainer name")


def read_levels(path: Path) -> np.ndarray | None:
    """uint16 [H, W]: the numbers of a grey image of 16 bits; None for one of 8, which `read_image` reads."""
    image = _decode(path)
    return _sixteen_bits(image, path) if image.mode.startswith("I") else None


def read_mask(path: Path, *, lossy: bool = False, seen: Seen | None = None) -> np.ndarray:
    """uint8 or uint16 [H, W]: the numbers in the file. A palette's indices are the numbers, its colours are not.

    lossy: a JPEG may be read, as its grey values will be compared with a threshold.
    seen: what numbers of palettes mean in the masks read before; this one's are added.
    UserError: as for images, for JPEG, for a coloured picture, which has no one number a pixel, for a number with
    another colour than in a mask read before, and for an alpha channel that leaves open what a colour means (see
    `_colours_under_alpha`)."""
    image = _decode(path, lossless=not lossy)
    if image.mode in ("1", "L", "P"):
        numbers = np.asarray(image, dtype=np.uint8)
        if image.mode == "P":
            palette = np.reshape(image.getpalette() or [], (-1, 3))[: int(numbers.max()) + 1]
            _check_palette(palette, path)
            if seen is not None:
                _compare_palettes(palette, np.unique(numbers[numbers < len(palette)]).tolist(), path, seen)
        return numbers
    if image.mode.startswith("I"):
        return _sixteen_bits(image, path)
    colours = _colours_under_alpha(image, path)
    if (colours != colours[..., :1]).any():
        raise UserError(f"{path}: a mask in colours; save one channel with numbers of classes or objects, 0 for the "
                        "background")
    return np.ascontiguousarray(colours[..., 0])


def _check_palette(colours: np.ndarray, path: Path) -> None:
    """UserError for greys that do not get brighter with their number: white may be number 0, as Pillow's `quantize`
    has it, and numbers would say the opposite of what is seen."""
    if (colours == colours[:, :1]).all() and (np.diff(colours[:, 0].astype(int)) < 0).any():
        raise UserError(f"{path}: a palette of greys in which a lower number is brighter; save the mask in grey, "
                        "without a palette, or give its classes as colours in dataset.yaml, as in {background: "
                        "[0, 0, 0], gland: [255, 255, 255]}")


def _compare_palettes(palette: np.ndarray, used: list[int], path: Path, seen: Seen) -> None:
    """PalettesDiffer for a number with two colours: palettes made file by file, as by Pillow's `quantize`, number what
    colours a file happens to hold."""
    for number in used:
        colour = palette[number].tolist()
        other, first = seen.setdefault(number, (colour, path))
        if colour != other:
            raise PalettesDiffer(
                f"{path}: number {number} of its palette is {colour}, but {other} in {first}; give the classes as "
                "colours in dataset.yaml, as in {background: [0, 0, 0], gland: [255, 0, 0]}, or, where the numbers are "
                "right, save the masks without a palette")


def colour_numbers(path: Path) -> np.ndarray:
    """uint32 [H, W]: the colours of a mask, 0xRRGGBB; a palette's colours count, not its indices.

    UserError: as for `read_mask`."""
    image = _decode(path, lossless=True)
    if image.mode.startswith("I"):
        raise UserError(f"{path}: 16 bits a pixel; save a mask in colours as RGB of 8 bits")
    return packed(_colours_under_alpha(image, path))


def looks_like_a_mask(image: np.ndarray) -> bool:
    """Whether most neighbouring pixels of an image [H, W, 3] are equal, as in a mask, also one with grey edges or a
    constant one, and in no photograph of tissue."""
    colours = packed(image)
    return colours.size > 1 and _edges(colours) < 1 - ALIKE


def is_blank_tile(image: np.ndarray) -> bool:
    """Whether an image [H, W, 3] that looks like a mask is a tile of a slide with little tissue on it: all one colour,
    glass (bright colours near each other, as JPEG leaves them), or a corner of tissue, which has many colours."""
    spread = np.ptp(image, axis=(0, 1)).max()
    return bool(spread == 0 or (spread < GLASS_SPREAD and image.min() >= 128)
                or len(np.unique(packed(image))) > MASK_COLOURS)


def _edges(values: np.ndarray) -> float:
    """The share of neighbouring pixels [H, W] with two different values."""
    differ = np.count_nonzero(values[:, 1:] != values[:, :-1]) + np.count_nonzero(values[1:] != values[:-1])
    return float(differ / (2 * values.size - sum(values.shape)))


def check_mask(mask: np.ndarray, classes: int | None, where: str) -> None:
    """UserError where a mask [H, W] holds another class than 0..classes-1 and 255 (ignore), or, with classes=None,
    object ids of a photograph: ids form regions, so neighbours mostly agree."""
    if mask.ndim != 2 or mask.size == 0 or mask.dtype.kind not in "bui":
        raise UserError(f"{where}: a mask must be integers [H, W], not {mask.dtype} {list(mask.shape)}")
    if classes is not None:
        wrong = mask[(mask >= classes) & (mask != 255)]
        if wrong.size:
            raise UserError(f"{where}: mask values {listed(np.unique(wrong).tolist(), 5)} in {wrong.size} pixels are "
                            f"outside the classes 0..{classes - 1} (255 = ignore)")
    elif mask.size >= 1024:  # a tiny mask may be all edges
        share = _edges(mask)
        if share > MAX_EDGES:
            raise UserError(f"{where}: not a mask of objects ({share:.0%} of neighbouring pixels differ, "
                            f"{len(np.unique(mask))} values); is it a photograph, or saved with loss?")


def resize(array: np.ndarray, size: int, how: Image.Resampling) -> np.ndarray:
    """uint8 [H, W(, 3)] -> [size, size(, 3)]; Pillow's bilinear filter widens with the scale, so it does not alias."""
    return np.asarray(Image.fromarray(array).resize((size, size), how))


def _decode(path: Path, *, lossless: bool = False) -> Image.Image:
    """An upright image of one of `MODES`. UserError for other files; where `lossless`, also for JPEG."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Given a path, Pillow (13.0) maps uncompressed TIFF that are turned with their sides mixed up.
            with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if getattr(image, "n_frames", 1) > 1:
                    raise UserError(f"{path}: holds more than one page; save a single image")
                if lossless and "jpeg" in (str(image.format).lower(), image.info.get("compression")):
                    raise UserError(f"{path}: a mask in JPEG, which smears its values; save it again from its source "
                                    "as PNG, or give dataset.yaml a threshold for its grey values, as in gland: "
                                    "{from: 128}")
                deep = ";16" in str(image.tile) and not image.mode.startswith("I")  # Pillow would drop the lower half
                if deep or image.mode not in MODES:
                    raise UserError(f"{path}: {image.mode} pixels{' of 16 bits a channel' if deep else ''} are not "
                                    "read; save the image as 8-bit RGB")
                image.load()
                return ImageOps.exif_transpose(image)
    except Image.DecompressionBombError:
        raise UserError(f"{path}: declares more than {MAX_PIXELS:,} pixels; cut it into tiles first") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path}: not an image (BMP, PNG, TIFF or JPEG); copy it again from the source") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not readable, or a truncated or damaged image ({cause}); copy it again from the "
                        "source") from None


def _colours_under_alpha(image: Image.Image, path: Path) -> np.ndarray:
    """uint8 [H, W, 3]: the colours of a mask, also of its transparent pixels (alpha 0), as public masks of nuclei have
    them. UserError where transparent and other pixels share a colour: what it means depends on the alpha then."""
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image.convert("RGBA"))
    clear, colours = pixels[..., 3] == 0, packed(pixels[..., :3])
    shared = np.intersect1d(colours[clear], colours[~clear])
    if len(shared):
        raise UserError(f"{path}: the colour {unpacked(shared[0])} is transparent in some pixels and not in others, "
                        "so its meaning is open; save the mask without an alpha channel")
    return pixels[..., :3]


def packed(colours: np.ndarray) -> np.ndarray:
    """Integers [..., 3] from 0 to 255 -> uint32 [...], 0xRRGGBB."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def unpacked(number: int) -> Colour:
    """0xRRGGBB as (red, green, blue)."""
    return int(number) >> 16, int(number) >> 8 & 255, int(number) & 255


def _sixteen_bits(image: Image.Image, path: Path) -> np.ndarray:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path}: values from {values.min()} to {values.max()}; they must lie in 0..65535")
    return values.astype(np.uint16)
