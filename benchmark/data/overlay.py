"""Predicted classes for programs and for eyes: a mask whose numbers are classes, and an image with outlines on it."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

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


def overlay(image: np.ndarray, classes: np.ndarray, areas: Mapping[str, float]) -> Image.Image:
    """The image uint8 [H, W, 3] with every class but the background outlined and tinted, over a legend with areas."""
    from scipy import ndimage

    picture = image.astype(np.float32)
    width = max(1, round(max(classes.shape) / LINE))
    for index in range(1, len(areas)):
        region = classes == index
        inner = ndimage.binary_erosion(region, iterations=width, border_value=1)
        for part, strength in ((region, TINT), (region & ~inner, 1.0)):
            picture[part] = (1 - strength) * picture[part] + strength * np.array(colour(index), np.float32)
    return _with_legend(Image.fromarray(picture.round().astype(np.uint8)), areas)


def _with_legend(picture: Image.Image, areas: Mapping[str, float]) -> Image.Image:
    """A line for each class but the background below the picture: its colour, its name, its share of the area."""
    size = max(10, round(max(picture.size) / 40))
    font, step = ImageFont.load_default(size), round(1.6 * size)
    named = [(colour(index), name, share) for index, (name, share) in enumerate(areas.items()) if index]
    sheet = Image.new("RGB", (picture.width, picture.height + step * len(named) + size // 2), "white")
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for row, (tone, name, share) in enumerate(named):
        top = picture.height + size // 2 + row * step
        draw.rectangle((size // 2, top, size // 2 + size, top + size), fill=tone)
        draw.text((2 * size, top + size / 2), f"{name} {share:.1%}", fill="black", font=font, anchor="lm")
    return sheet
