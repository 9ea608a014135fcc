"""What a plan does to images: flips, turns and crops, then the colours and the sharpness of strong views.

A dihedral code (bit 0: vertical flip, bit 1: horizontal flip, bit 2: a transposition after them) treats rows and
columns apart, so the permutation is a sum of one table per axis; so is every crop. Colours work on whole batches of
images in [0, 1], with one strength per image; brightness, contrast, saturation and hue follow torchvision's
definitions, in just that order. Pure tensor code of fixed shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)


class Geometry:
    """What one plan does to square maps of side `size`.

    `code` int64 [B]: dihedral codes. `crop` float32 [B, 3]: y, x, side in whole pixels of the flipped and turned map,
    or None where nothing is ever cropped.
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

        Exact for flips and turns, and for a whole-number map within a crop; a real map in a crop is interpolated twice.
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

    On a CPU this is faster than four gathers; its backward pass is a product too, so it is deterministic everywhere.
    """
    place = torch.arange(values.shape[-1], device=values.device, dtype=values.dtype)
    hats = ((1 - (at.to(values.dtype)[:, :, None] - place).abs()).clamp_(min=0) for at in (rows, columns))
    down, across = (_across(hat, values) for hat in hats)
    return down @ values @ across.transpose(-1, -2)


def luma(image: Tensor) -> Tensor:
    """ITU-R 601 grey value: [B, 3, H, W] -> [B, 1, H, W]."""
    red, green, blue = image.split(1, 1)
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def adjust(image: Tensor, colour: Tensor) -> Tensor:
    """`image` [B, 3, H, W] in [0, 1] changed by `colour` [B, 5], clipped to [0, 1] after every change.

    Columns: factors of brightness, contrast and saturation (1 leaves as is), hue shift in turns (0 leaves as is), and
    1 to end in grey, else 0.
    """
    brightness, contrast, saturation, hue, grey = colour[:, :, None, None, None].unbind(1)
    image = (image * brightness).clamp_(0, 1)
    image = _blend(image, luma(image).mean((2, 3), keepdim=True), contrast)
    image = _blend(image, luma(image), saturation)
    image = shift_hue(image, hue)
    return torch.where(grey > 0, luma(image), image)


def _blend(image: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (image * factor + other * (1 - factor)).clamp_(0, 1)


def shift_hue(image: Tensor, turns: Tensor) -> Tensor:
    """Hue moved by `turns` [B, 1, 1, 1] of the colour circle, at equal saturation and value (HSV)."""
    red, green, blue = image.split(1, 1)
    value = image.amax(1, keepdim=True)
    chroma = value - image.amin(1, keepdim=True)
    unit = chroma + (chroma == 0)
    # sixths of the circle from red; grey has no hue, and no chroma to show it with
    rest = torch.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit)
    hue = torch.where(value == red, (green - blue) / unit, rest)
    # each channel is `value` less `chroma` times one trapezium over the circle, put at 5, 3 and 1 sixths
    # (made on the device: Python numbers would have to be copied there, which a CUDA graph forbids)
    start = 5 - 2 * torch.arange(3, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    place = hue + 6 * turns + start
    place = place - 6 * (place / 6).floor_()
    return value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1)


def taps(size: int, radius: int, device: torch.device | str | None = None) -> Tensor:
    """Where each tap of a kernel falls, the image mirrored about its edge pixels: float32 [2 * radius + 1, S²].

    Entry (k, i * S + j) is 1 where tap k of output pixel i reads input pixel j. Needs radius < size.
    """
    place = torch.arange(size, device=device)
    table = []
    for offset in range(-radius, radius + 1):
        read = (place + offset).abs()
        read = torch.where(read < size, read, 2 * (size - 1) - read)
        table.append((read[:, None] == place).flatten())
    return torch.stack(table).float()


def blur(image: Tensor, sigma: Tensor, taps: Tensor) -> Tensor:
    """Gaussian blur of `image` [B, 3, S, S] by `sigma` [B] pixels (0: none), cut at the radius of `taps`.

    Separable, as two products with a banded matrix per image: faster on a CPU than grouped convolutions, and the
    mirrored border costs nothing.
    """
    size, radius = image.shape[-1], taps.shape[0] // 2
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    # far below one pixel the kernel is exactly the identity, without a division by nought
    weight = (-0.5 * (offset / sigma.to(image.dtype).clamp(min=0.01)[:, None]).square()).exp()
    weight = weight / weight.sum(1, keepdim=True)
    band = (weight @ taps.to(image.dtype)).view(-1, 1, size, size)
    return band @ image @ band.transpose(-1, -2)
