"""Decode one image or mask file: the array it holds, or one line saying which file is wrong and how."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.errors import UserError

EXTENSIONS = (".bmp", ".png", ".tif", ".tiff")
FORMATS = ("BMP", "PNG", "TIFF", "JPEG")  # nothing that starts another program or reads another file
LARGEST = 100_000_000  # pixels; a slide of this size should be cut into tiles first
BUSY = 0.2  # share of neighbouring pixels with two different ids; measured on GlaS masks: below 0.01


def read_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 3]. Grey and palette images become RGB; an opaque alpha channel is dropped.

    UserError: not there, not an image, truncated, too large, more than one page, more than 8 bits, CMYK, transparent.
    """
    image = _decode(path)
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{path}: {image.mode} pixels of more than 8 bits; save the image as 8-bit RGB")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise UserError(f"{path}: colour mode {image.mode} is not read; save the image as 8-bit RGB")
    return np.asarray(_opaque(image, path).convert("RGB"))


def read_levels(path: Path) -> np.ndarray | None:
    """uint16 [H, W]: the numbers of a grey image of 16 bits; None for one of 8, which `read_image` reads.

    UserError: as for images, and for numbers outside 0..65535."""
    image = _decode(path)
    if not image.mode.startswith("I"):
        return None
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path}: grey values from {levels.min()} to {levels.max()}; they must lie in 0..65535")
    return levels.astype(np.uint16)


def read_mask(path: Path) -> np.ndarray:
    """uint8 or uint16 [H, W]: the numbers in the file. A palette's indices are the numbers, its colours are not.

    UserError: as for images, and for a coloured picture, which has no one number a pixel."""
    image = _decode(path)
    if image.mode == "P":
        _check_palette(image, path)
        return np.asarray(image)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L") if image.mode == "L" else image, dtype=np.uint8)
    if image.mode.startswith("I"):
        ids = np.asarray(image)
        if ids.min() < 0 or ids.max() > np.iinfo(np.uint16).max:
            raise UserError(f"{path}: mask values from {ids.min()} to {ids.max()}; they must lie in 0..65535")
        return ids.astype(np.uint16)
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise UserError(f"{path}: colour mode {image.mode} is not read as a mask; save one 8-bit channel of ids")
    channels = np.asarray(_opaque(image, path).convert("RGB"))
    if (channels != channels[..., :1]).any():
        raise UserError(f"{path}: a mask in colours; save one channel, 0 for background and an id for each object")
    return np.ascontiguousarray(channels[..., 0])


def check_ids(mask: np.ndarray, where: str) -> None:
    """UserError where a mask of object ids looks like a photograph: ids form regions, so neighbours mostly agree."""
    if mask.ndim != 2 or mask.size == 0 or mask.dtype.kind not in "bui":
        raise UserError(f"{where}: a mask must be integers [H, W], not {mask.dtype} {list(mask.shape)}")
    pairs = max(1, mask[:, 1:].size + mask[1:].size)
    edges = np.count_nonzero(mask[:, 1:] != mask[:, :-1]) + np.count_nonzero(mask[1:] != mask[:-1])
    # A tiny mask may be all edges; this is about pictures that were saved in the place of a mask.
    if mask.size >= 1024 and edges / pairs > BUSY:
        raise UserError(f"{where}: not a mask of objects ({edges / pairs:.0%} of neighbouring pixels differ, "
                        f"{len(np.unique(mask))} values); is it a photograph, or saved with loss?")


def check_classes(mask: np.ndarray, classes: int, where: str) -> None:
    """UserError where a mask of class indices holds another value than 0..classes-1 and 255 (ignore)."""
    if mask.ndim != 2 or mask.size == 0 or mask.dtype.kind not in "bui":
        raise UserError(f"{where}: a mask must be integers [H, W], not {mask.dtype} {list(mask.shape)}")
    wrong = [int(value) for value in np.unique(mask) if value >= classes and value != 255]
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise UserError(f"{where}: mask values {shown} are outside the classes 0..{classes - 1} (255 = ignore)")


def _decode(path: Path) -> Image.Image:
    if not path.is_file():
        raise UserError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                _check_size(image, path)
                if getattr(image, "n_frames", 1) > 1:
                    raise UserError(f"{path}: holds {getattr(image, 'n_frames', 1)} pages; save a single image")
                image.load()
                return image.copy()
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{path}: declares more than {LARGEST:,} pixels; cut it into tiles first") from None
    except Image.UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise UserError(f"{path}: {'empty file' if empty else 'not an image'} (expected BMP, PNG or TIFF); "
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


def _opaque(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in ("LA", "RGBA") and image.getchannel("A").getextrema()[0] != 255:
        raise UserError(f"{path}: has transparent pixels; save it without an alpha channel")
    return image


def _check_palette(image: Image.Image, path: Path) -> None:
    """Index 0 must be the background. A palette sorted by frequency may have black, which is 0, elsewhere."""
    palette = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    black = [int(index) for index in np.unique(np.asarray(image)) if index < len(palette) and not palette[index].any()]
    if black and black[0] != 0 and palette[0].any():
        raise UserError(f"{path}: a palette mask whose black is index {black[0]}, not 0; save the ids as grey values")
