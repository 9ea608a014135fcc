"""The geometry of a batch: flips and turns as exact permutations, then a crop resized to the whole side.

A dihedral code (bit 0: vertical flip, bit 1: horizontal flip, bit 2: a transposition after them) treats rows
and columns apart, so the permutation is a sum of one table per axis; so is every crop. Pure tensor code of
fixed shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Geometry:
    """What one plan does to square maps of side `size`.

    `code` int64 [B]: dihedral codes. `crop` float32 [B, 3]: y, x, side in whole pixels of the flipped and
    turned map, or None where nothing is ever cropped.
    """

    def __init__(self, code: Tensor, crop: Tensor | None, size: int) -> None:
        self.crop, self.size = crop, size
        place = torch.arange(size, device=code.device)
        flipped = size - 1 - place
        self._rows = torch.where((code & 1).bool()[:, None], flipped, place)
        self._columns = torch.where((code & 2).bool()[:, None], flipped, place)
        self._transposed = (code & 4).bool()[:, None]

    def sources(self) -> Tensor:
        """Which pixel of the flattened map each pixel of the turned map shows: int64 [B, S * S] (no crop)."""
        rows, columns = self._rows * self.size, self._columns
        first = torch.where(self._transposed, columns, rows)
        second = torch.where(self._transposed, rows, columns)
        return (first[:, :, None] + second[:, None, :]).flatten(1)

    def apply(self, values: Tensor) -> Tensor:
        """A map [B, ..., S, S] of the stored images, moved like the batch: flips, turns, then the crop."""
        return self.zoom(_take(values, self.sources()))

    def restore(self, values: Tensor, fill: float = 0) -> Tensor:
        """The inverse of `apply`; what lay outside of a crop becomes `fill`.

        Exact for flips and turns, and for a whole-number map within a crop; a real map in a crop is
        interpolated twice.
        """
        if self.crop is not None:
            values = self._unzoom(values, fill)
        rows = self._rows * torch.where(self._transposed, 1, self.size)
        columns = self._columns * torch.where(self._transposed, self.size, 1)
        return _take(values, (rows[:, :, None] + columns[:, None, :]).flatten(1))

    def zoom(self, values: Tensor) -> Tensor:
        """Only the crop: bilinear for real maps (pixel centres, edges repeated), else nearest."""
        if self.crop is None:
            return values
        starts, side = self.crop[:, :2], self.crop[:, 2:]
        if values.is_floating_point():
            centre = (self._place() + 0.5) * (side / self.size) - 0.5
            inner = centre.clamp(min=0).minimum(side - 1)
            return _resample(values, starts[:, :1] + inner, starts[:, 1:] + inner)
        nearest = (2 * self._place().long() + 1) * side.long() // (2 * self.size)
        return _pick(values, starts[:, :1].long() + nearest, starts[:, 1:].long() + nearest)

    def _unzoom(self, values: Tensor, fill: float) -> Tensor:
        crop = self.crop
        assert crop is not None
        side = crop[:, 2:]
        offsets = [self._place() - crop[:, axis : axis + 1] for axis in (0, 1)]
        inside = [(offset >= 0) & (offset < side) for offset in offsets]
        if values.is_floating_point():
            centres = [(offset + 0.5) * (self.size / side) - 0.5 for offset in offsets]
            whole = _resample(values, *(centre.clamp(0, self.size - 1) for centre in centres))
        else:
            nearest = [(2 * offset.long() + 1) * self.size // (2 * side.long()) for offset in offsets]
            whole = _pick(values, *(place.clamp(0, self.size - 1) for place in nearest))
        seen = _across(inside[0][:, :, None] & inside[1][:, None, :], whole)
        return whole.where(seen, whole.new_full((), fill))

    def _place(self) -> Tensor:
        assert self.crop is not None
        return torch.arange(self.size, device=self.crop.device, dtype=self.crop.dtype)


def _across(tensor: Tensor, like: Tensor) -> Tensor:
    """[B, h, w] -> [B, 1, ..., 1, h, w] with the dimensions of `like`."""
    return tensor.reshape(tensor.shape[0], *[1] * (like.dim() - 3), *tensor.shape[1:])


def _take(values: Tensor, sources: Tensor) -> Tensor:
    """values[b, ..., sources[b]] over the flattened map."""
    flat = values.flatten(-2)
    index = sources.reshape(sources.shape[0], *[1] * (flat.dim() - 2), -1)
    return flat.gather(-1, index.expand_as(flat)).reshape(values.shape)


def _pick(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """values[b, ..., rows[b], columns[b]] as a grid; rows and columns int64 [B, S]."""
    return _take(values, (rows[:, :, None] * values.shape[-1] + columns[:, None, :]).flatten(1))


def _resample(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values at real `rows` x `columns` ([B, S] each): two products with matrices of hat functions.

    On a CPU this is faster than four gathers; its backward pass is a product too, so it is deterministic
    everywhere.
    """
    place = torch.arange(values.shape[-1], device=values.device, dtype=values.dtype)
    hats = ((1 - (at.to(values.dtype)[:, :, None] - place).abs()).clamp_(min=0) for at in (rows, columns))
    down, across = (_across(hat, values) for hat in hats)
    return down @ values @ across.transpose(-1, -2)
