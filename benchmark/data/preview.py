"""Pictures of masks: a contact sheet of prepared images with the outlines of their masks, to see whether the data are
right; and predicted classes, as a mask with a palette and as outlines on their image."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from benchmark.data.dataset import IGNORE
from benchmark.data.images import Colour
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.files import write_atomically

COLOURS: tuple[Colour, ...] = (  # of classes, without the background; they stand out on pink and violet
    (0, 230, 118), (255, 234, 0), (0, 200, 255), (255, 87, 34), (255, 255, 255), (41, 98, 255), (141, 110, 99),
)
UNKNOWN = (128, 128, 128)
ROLES: dict[str, Colour] = {
    "labelled": (27, 122, 61), "unlabelled": (69, 90, 120), "unlabelled, validation": (94, 70, 140),
    "validation": (128, 64, 140), "test": (176, 58, 46), "not used": (150, 150, 150),
}
GAP, LINE, LETTERS, COLUMNS = 6, 17, 11, 8  # pixels, but for columns
TINT = 0.2  # of a class's colour inside its outline on a prediction's image
THIN = 300  # an outline is one pixel for so many of that image's longer side
MARK = b"SemiHisto preview"  # in the file: what has it may be drawn anew, anything else is not overwritten


def preview(
    prepared: PreparedData, path: Path, *, ids: Sequence[str] | None = None, count: int = 40, tile: int = 192,
    split: Split | None = None,
) -> Path:
    """Write a PNG of `count` images spread evenly over the data set, or of `ids`. Returns its path.

    Outlines have a colour for each class, named on top where there are several. Grey tint: label 255, the truth is
    unknown; an image that is unknown all over has no mask, as its caption says. With `split`, each tile says what its
    image is there. UserError where an id does not exist, nothing is to be shown, or the file cannot be written or is
    another one."""
    if count < 1:
        raise UserError(f"a preview of {count} images; ask for one at least")
    if path.is_file() and MARK not in path.read_bytes()[:512]:
        raise UserError(f"{path}: not a preview, so it is not overwritten; name another --output")
    if ids is None:
        total = len(prepared.ids)
        ids = [prepared.ids[place] for place in np.linspace(0, total - 1, min(count, total)).round().astype(int)]
    pictures, words = [prepared.picture(name) for name in ids], font(LETTERS)
    several = len(prepared.classes) > 2
    legend = [(name, colour(value)) for value, name in enumerate(prepared.classes) if value and several]
    if several and any((mask == IGNORE).any() and not (mask == IGNORE).all() for _, mask in pictures):
        legend.append(("not known", UNKNOWN))
    columns = min(COLUMNS, len(pictures))
    top = GAP + len(legend) * LINE + GAP * several
    height = tile + LINE * (1 if split is None else 2) + GAP
    sheet = Image.new("RGB", (GAP + columns * (tile + GAP), top + -(-len(pictures) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, tone) in enumerate(legend):
        y = GAP + number * LINE + 1
        draw.rectangle((GAP, y, GAP + LETTERS, y + LETTERS), fill=tone, outline="black")
        draw.text((2 * GAP + LETTERS, y), name, fill="black", font=words)
    for number, (name, (image, mask)) in enumerate(zip(ids, pictures, strict=True)):
        x, y = GAP + number % columns * (tile + GAP), top + number // columns * height
        # thin lines hide less; colours need some width
        sheet.paste(Image.fromarray(outlined(image, mask, tile, 2 if several else 1)), (x, y))
        y += tile
        if split is not None:
            role = role_of(name, split)
            draw.rectangle((x, y, x + tile - 1, y + LINE - 1), fill=ROLES[role])
            draw.text((x + 4, y + 2), role, fill="white", font=words)
            y += LINE
        grade = prepared.groups["grade"][prepared.position(name)] if "grade" in prepared.groups else ""
        caption = "  ".join(filter(None, (name, grade, "no mask" * bool((mask == IGNORE).all()))))
        draw.text((x, y + 1), _shortened(caption, tile, words), fill="black", font=words)
    marked = PngInfo()
    marked.add_text("Title", f"{MARK.decode()} of {prepared.name}")
    write_atomically(path, lambda stream: sheet.save(stream, format="PNG", pnginfo=marked))
    return path


def role_of(id: str, split: Split) -> str:
    """What an image is in a split, in one or two words: a key of ROLES."""
    if id in split.labelled or id in split.test:
        return "labelled" if id in split.labelled else "test"
    return ", ".join(word for word in ("unlabelled", "validation") if id in getattr(split, word)) or "not used"


def outlined(image: np.ndarray, mask: np.ndarray, side: int, thickness: int = 1) -> np.ndarray:
    """uint8 [S, S, 3] and [S, S] -> uint8 [side, side, 3] with the outlines of the mask's regions, inside them."""
    picture = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    if (mask == IGNORE).all():
        return picture
    regions = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
    picture[regions == IGNORE] = (picture[regions == IGNORE] + np.array(UNKNOWN)) // 2
    lines = _outlines(regions, thickness) & (regions != IGNORE)
    picture[lines] = np.array([colour(value) for value in range(IGNORE)], np.uint8)[regions[lines]]
    return picture


def _shortened(text: str, width: int, words: ImageFont.FreeTypeFont) -> str:
    """The text, or as much of its two ends as fits."""
    keep, whole = len(text), text
    while keep > 2 and words.getlength(text) > width:
        keep -= 1
        text = f"{whole[:keep // 2]}...{whole[-(keep // 2):]}"
    return text


def colour(index: int) -> Colour:
    """The colour of a class: black for the background, then few that are easy to tell apart, then around the circle."""
    if index <= len(COLOURS):
        return COLOURS[index - 1] if index else (0, 0, 0)
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's, which has more letters than Pillow's own: names have accents."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _outlines(classes: np.ndarray, width: int) -> np.ndarray:
    """bool [H, W]: the pixels of every region of [H, W] but the background's that lie `width` or less inside it."""
    from scipy import ndimage

    found = np.zeros(classes.shape, bool)
    for value in np.unique(classes[classes > 0]):
        region = classes == value
        found |= region & ~ndimage.binary_erosion(region, iterations=width, border_value=1)
    return found


def indexed(classes: np.ndarray, count: int) -> Image.Image:
    """Class indices uint8 [H, W] as a palette image: a program reads the indices, a viewer shows colours."""
    picture = Image.fromarray(classes).convert("P")
    picture.putpalette([channel for index in range(count) for channel in colour(index)])
    return picture


def shares(classes: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Each class's share of the pixels, the background's too."""
    counts = np.bincount(classes.ravel(), minlength=len(names))
    return {name: float(counts[index] / classes.size) for index, name in enumerate(names)}


def overlay(image: np.ndarray, classes: np.ndarray, areas: Mapping[str, float]) -> Image.Image:
    """The image uint8 [H, W, 3] with every class but the background outlined and tinted, over a legend with areas."""
    colours = np.array([colour(index) for index in range(len(areas))], np.float32)[classes]
    lines = _outlines(classes, max(1, round(max(classes.shape) / THIN)))
    strength = np.where(lines, 1.0, TINT * (classes > 0)).astype(np.float32)[..., None]
    picture = Image.fromarray(((1 - strength) * image + strength * colours).round().astype(np.uint8))
    size = max(10, round(max(picture.size) / 40))
    words, step = font(size), round(1.6 * size)
    named = [(colour(index), name, share) for index, (name, share) in enumerate(areas.items()) if index]
    sheet = Image.new("RGB", (picture.width, picture.height + step * len(named) + size // 2), "white")
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for row, (tone, name, share) in enumerate(named):
        top = picture.height + size // 2 + row * step
        draw.rectangle((size // 2, top, size // 2 + size, top + size), fill=tone)
        draw.text((2 * size, top + size / 2), f"{name} {share:.1%}", fill="black", font=words, anchor="lm")
    return sheet
