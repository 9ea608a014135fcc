"""Where an image is cut into tiles: the same for preparing, predicting and scoring. Putting them together again is
`benchmark.training.stitch`."""

from __future__ import annotations

from pydantic import model_validator

from benchmark.config.yaml_files import Strict

Box = tuple[int, int, int, int]  # y, x, height, width in pixels of the image


class Tile(Strict):
    """Large images are cut into squares of `size` pixels, at native size, neighbours sharing at least `overlap`."""

    size: int
    overlap: int = 0

    @model_validator(mode="after")
    def _can_be_cut(self) -> Tile:
        if self.size < 16 or not 0 <= self.overlap < self.size:
            raise ValueError("must have a size of 16 pixels or more and an overlap below it, not "
                             f"{self.size} and {self.overlap}")
        return self


def boxes(height: int, width: int, size: int | tuple[int, int], overlap: int = 0) -> list[Box]:
    """Boxes that cover an image, row by row: tiles of `size` (height, width, or both), neighbours sharing `overlap`
    pixels or more.

    The last of a row or column ends with the image, so none reaches beyond it; an image smaller than a tile on one
    side is one box wide there."""
    tall, wide = (size, size) if isinstance(size, int) else size
    down, across = _starts(height, tall, overlap), _starts(width, wide, overlap)
    return [(y, x, min(tall, height), min(wide, width)) for y in down for x in across]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    last = max(0, length - size)
    return [*range(0, last, size - overlap), last]
