"""A contact sheet of prepared images with the outlines of their masks: one look says whether the data are right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from benchmark.data.dataset import IGNORE
from benchmark.data.overlay import Colour, colour
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.files import write_atomically

UNKNOWN = (128, 128, 128)
ROLES: dict[str, Colour] = {
    "labelled": (27, 122, 61), "unlabelled": (69, 90, 120), "unlabelled, validation": (94, 70, 140),
    "validation": (128, 64, 140), "test": (176, 58, 46), "not used": (150, 150, 150),
}
GAP, LINE, SWATCH, LETTERS = 6, 17, 12, 11  # pixels
MARK = b"SemiHisto preview"  # in the file: what has it may be drawn anew, anything else is not overwritten


def preview(
    prepared: PreparedData, path: Path, *, ids: Sequence[str] | None = None, count: int = 40, columns: int = 8,
    tile: int = 192, split: Split | None = None,
) -> Path:
    """Write a PNG of `count` images spread evenly over the data set, or of `ids`. Returns its path.

    Outlines have a colour for each class, named on top where there are several. Grey tint: label 255, the truth is
    unknown; an image that is unknown all over has no mask and is called so. With `split`, each tile says what its
    image is there. UserError where an id does not exist, nothing is to be shown, or the file cannot be written or is
    another one."""
    if count < 1:
        raise UserError(f"a preview of {count} images; ask for one at least")
    _check_replaceable(path)
    if ids is None:
        total = len(prepared.ids)
        ids = [prepared.ids[place] for place in np.linspace(0, total - 1, min(count, total)).round().astype(int)]
    pictures = [prepared.picture(name) for name in ids]
    font = _font()
    thickness = 1 if len(prepared.classes) == 2 else 2  # thin lines hide less, and colours need some width
    columns = max(1, min(columns, len(pictures)))
    width = GAP + columns * (tile + GAP)
    lines = _laid_out(_legend(prepared, [mask for _, mask in pictures]), width, font)
    top = GAP + len(lines) * (LINE + 2) + GAP * bool(lines)
    height = tile + LINE * (1 if split is None else 2) + GAP
    sheet = Image.new("RGB", (width, top + -(-len(pictures) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        for x, (label, tone) in line:
            y = GAP + number * (LINE + 2)
            draw.rectangle((x, y + 1, x + SWATCH, y + 1 + SWATCH), fill=tone, outline="black")
            draw.text((x + SWATCH + GAP, y + 1), label, fill="black", font=font)
    for number, (name, (image, mask)) in enumerate(zip(ids, pictures, strict=True)):
        x, y = GAP + number % columns * (tile + GAP), top + number // columns * height
        sheet.paste(Image.fromarray(outlined(image, mask, tile, thickness)), (x, y))
        if (mask == IGNORE).all():
            _badge(draw, (x + 4, y + 4), "unlabelled", font)
        caption = y + tile
        if split is not None:
            role = role_of(name, split)
            draw.rectangle((x, caption, x + tile - 1, caption + LINE - 1), fill=ROLES[role])
            draw.text((x + 4, caption + 2), role, fill="white", font=font)
            caption += LINE
        words = [name, prepared.groups["grade"][prepared.position(name)]] if "grade" in prepared.groups else [name]
        draw.text((x, caption + 1), _shortened("  ".join(words), tile, font), fill="black", font=font)
    marked = PngInfo()
    marked.add_text("Title", f"{MARK.decode()} of {prepared.name}")
    write_atomically(path, lambda stream: sheet.save(stream, format="PNG", pnginfo=marked))
    return path


def role_of(id: str, split: Split) -> str:
    """What an image is in a split, in one or two words: a key of ROLES."""
    if id in split.labelled:
        return "labelled"
    if id in split.test:
        return "test"
    parts = [word for word in ("unlabelled", "validation") if id in getattr(split, word)]
    return ", ".join(parts) or "not used"


def outlined(image: np.ndarray, mask: np.ndarray, side: int, thickness: int = 1) -> np.ndarray:
    """uint8 [S, S, 3] and [S, S] -> uint8 [side, side, 3] with the outlines of the mask's regions, inside them."""
    picture = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    if (mask == IGNORE).all():
        return picture
    regions = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
    picture[regions == IGNORE] = (picture[regions == IGNORE] + np.array(UNKNOWN)) // 2
    padded = np.pad(regions, thickness, mode="edge")
    inner = np.ones(regions.shape, dtype=bool)
    for far in range(1, thickness + 1):
        for row, column in ((-far, 0), (far, 0), (0, -far), (0, far)):
            top, left = thickness + row, thickness + column
            inner &= padded[top:top + side, left:left + side] == regions
    for value in (int(value) for value in np.unique(regions) if 0 < value < IGNORE):
        picture[~inner & (regions == value)] = colour(value)
    return picture


def _check_replaceable(path: Path) -> None:
    if path.is_file():
        with open(path, "rb") as stream:
            if MARK not in stream.read(512):
                raise UserError(f"{path}: not a preview, so it is not overwritten; name another --output")


def _font() -> ImageFont.FreeTypeFont:
    """matplotlib's, which has more letters than Pillow's own: ids have accents."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", LETTERS)


def _legend(prepared: PreparedData, masks: Sequence[np.ndarray]) -> list[tuple[str, Colour]]:
    """Names and colours of what is drawn; none where there is one class beside the background, as in GlaS."""
    if len(prepared.classes) == 2:
        return []
    named = [(name, colour(value)) for value, name in enumerate(prepared.classes) if value]
    ignored = any((mask == IGNORE).any() and not (mask == IGNORE).all() for mask in masks)
    return [*named, *([("not known", UNKNOWN)] if ignored else [])]


def _laid_out(
    entries: Sequence[tuple[str, Colour]], width: int, font: ImageFont.FreeTypeFont,
) -> list[list[tuple[int, tuple[str, Colour]]]]:
    """The legend in lines no wider than the sheet: (x, entry)."""
    lines: list[list[tuple[int, tuple[str, Colour]]]] = []
    x = width
    for entry in entries:
        taken = SWATCH + GAP + int(font.getlength(entry[0])) + 3 * GAP
        if x + taken > width:
            lines.append([])
            x = GAP
        lines[-1].append((x, entry))
        x += taken
    return lines


def _badge(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str,
    font: ImageFont.FreeTypeFont,
) -> None:
    x, y = place
    draw.rectangle((x, y, x + int(font.getlength(text)) + 8, y + LINE - 1), fill="white", outline="black")
    draw.text((x + 4, y + 2), text, fill="black", font=font)


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, or as much of its two ends as fits."""
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 2 and font.getlength(f"{text[:keep // 2]}...{text[-(keep // 2):]}") > width:
        keep -= 1
    return f"{text[:keep // 2]}...{text[-(keep // 2):]}"
