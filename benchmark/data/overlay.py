"""Predicted classes for programs and for eyes: a mask whose numbers are classes, and an image with outlines on it."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmark.data.images import Colour

COLOURS: tuple[Colour, ...] = (  # they stand out on pink and violet
    (0, 230, 118), (255, 234, 0), (0, 200, 255), (255, 87, 34), (255, 255, 255), (41, 98, 255), (141, 110, 99),
)
TINT = 0.2  # of a class's colour inside its outline
LINE = 300  # an outline is one pixel for so many of the image's longer side


def colour(index: int) -> Colour:
    """The colour of a class: black for the background, then few that are easy to tell apart, then around the circle."""
    if index <= len(COLOURS):
        return COLOURS[index - 1] if index else (0, 0, 0)
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def indexed(classes: np.ndarray, count: int) -> Image.Image:
    """Class indices uint8 [H, W] as a palette image: a program reads the indices, a viewer shows colours."""
    picture = Image.fromarray(classes).convert("P")
    picture.putpalette([channel for index in range(count) for channel in colour(index)])
    return picture


def shares(classes: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Each class's share of the pixels, the background's too."""
    counts = np.bincount(classes.ravel(), minlength=len(names))
    return {name: float(counts[index] / classes.size) for index, name in enumerate(names)}


def outlines(classes: np.ndarray, width: int) -> np.ndarray:
    """bool [H, W]: the pixels of every region of [H, W] but the background's that lie `width` or less inside it."""
    from scipy import ndimage

    found = np.zeros(classes.shape, bool)
    for value in np.unique(classes[classes > 0]):
        region = classes == value
        found |= region & ~ndimage.binary_erosion(region, iterations=width, border_value=1)
    return found


def font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's, which has more letters than Pillow's own: names have accents."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def overlay(image: np.ndarray, classes: np.ndarray, areas: Mapping[str, float]) -> Image.Image:
    """The image uint8 [H, W, 3] with every class but the background outlined and tinted, over a legend with areas."""
    colours = np.array([colour(index) for index in range(len(areas))], np.float32)[classes]
    lines = outlines(classes, max(1, round(max(classes.shape) / LINE)))
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
