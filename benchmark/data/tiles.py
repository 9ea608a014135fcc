"""Large images in tiles: where they are cut, and their predictions put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[int, int, int, int]  # y, x, height, width in pixels of the image


@dataclass(frozen=True)
class Tile:
    """Large images are cut into squares of `size` pixels, at native size, neighbours sharing at least `overlap`."""

    size: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size < 16 or not 0 <= self.overlap < self.size:
            raise ValueError("must have a size of 16 pixels or more and an overlap below it, not "
                             f"{self.size} and {self.overlap}")


def boxes(height: int, width: int, size: int, overlap: int = 0) -> list[Box]:
    """Boxes that cover an image, row by row: squares of `size`, neighbours sharing `overlap` pixels or more.

    The last of a row or column ends with the image, so none reaches beyond it; an image smaller than `size` on one side
    is one box wide there."""
    down, across = _starts(height, size, overlap), _starts(width, size, overlap)
    return [(y, x, min(size, height), min(size, width)) for y in down for x in across]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    last = max(0, length - size)
    return [*range(0, last, size - overlap), last]


def stitch(tiles: Tensor, cut: Sequence[Box], shape: tuple[int, int]) -> Tensor:
    """Tiles of an image [K, C, S, S], of any size S, as the whole image [C, H, W] of `shape` = (H, W) at native size.

    Each tile is resized to its box bilinearly, in its own type; pixels of several tiles are their mean. K tiles belong
    to the K boxes of `cut`, which cover the image, as those of `boxes` do. One box gives what resizing alone gives.
    """
    import torch
    from torch.nn import functional

    whole = torch.zeros((tiles.shape[1], *shape), dtype=tiles.dtype, device=tiles.device)
    times = torch.zeros(shape, dtype=tiles.dtype, device=tiles.device)
    for tile, (y, x, height, width) in zip(tiles, cut, strict=True):
        native = functional.interpolate(tile[None], size=(height, width), mode="bilinear", align_corners=False)[0]
        whole[:, y : y + height, x : x + width] += native
        times[y : y + height, x : x + width] += 1
    return whole / times
