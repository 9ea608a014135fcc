"""A contact sheet of prepared images with the outlines of their masks: one look says whether the data are right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmark.data.dataset import IGNORE
from benchmark.data.prepared import Prepared
from benchmark.errors import UserError

OUTLINE = (0, 230, 118)
UNKNOWN = (128, 128, 128)
GAP, CAPTION = 6, 16  # pixels


def preview(
    prepared: Prepared, path: Path, *, ids: Sequence[str] | None = None, count: int = 40, columns: int = 8,
    tile: int = 192,
) -> Path:
    """Write a PNG of `count` images spread evenly over the data set, or of `ids`. Returns its path.

    Grey tint: label 255, the truth is unknown. UserError where an id does not exist or the file cannot be written."""
    if ids is None:
        total = len(prepared.ids)
        ids = [prepared.ids[place] for place in np.linspace(0, total - 1, min(count, total)).round().astype(int)]
    places = [prepared.position(name) for name in ids]
    columns = max(1, min(columns, len(places)))
    rows = -(-len(places) // columns)
    sheet = Image.new("RGB", (GAP + columns * (tile + GAP), GAP + rows * (tile + CAPTION + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for number, place in enumerate(places):
        x, y = GAP + number % columns * (tile + GAP), GAP + number // columns * (tile + CAPTION + GAP)
        sheet.paste(Image.fromarray(outlined(*prepared.picture(prepared.ids[place]), tile)), (x, y))
        words = [prepared.ids[place], *(prepared.groups[key][place] for key in ("grade",) if key in prepared.groups)]
        draw.text((x, y + tile + 1), "  ".join(words), fill="black", font=font)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise UserError(f"{path}: the preview cannot be written ({error.strerror or error})") from None
    return path


def outlined(image: np.ndarray, mask: np.ndarray, side: int) -> np.ndarray:
    """uint8 [S, S, 3] and [S, S] -> uint8 [side, side, 3] with the outlines of the mask's regions, inside them."""
    picture = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    regions = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
    picture[regions == IGNORE] = (picture[regions == IGNORE] + np.array(UNKNOWN)) // 2
    padded = np.pad(regions, 1, mode="edge")
    inner = np.ones(regions.shape, dtype=bool)
    for row, column in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= padded[row:row + side, column:column + side] == regions
    picture[~inner & (regions > 0) & (regions != IGNORE)] = OUTLINE
    return picture
