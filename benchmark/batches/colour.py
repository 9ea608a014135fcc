"""Colour and sharpness of strong views, on whole batches of images in [0, 1], with one strength per image.

Brightness, contrast, saturation and hue follow torchvision's definitions; the order is fixed to just that.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)


def luma(image: Tensor) -> Tensor:
    """ITU-R 601 grey value: [B, 3, H, W] -> [B, 1, H, W]."""
    red, green, blue = image.split(1, 1)
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def adjust(image: Tensor, colour: Tensor) -> Tensor:
    """`image` [B, 3, H, W] in [0, 1] changed by `colour` [B, 5], clipped to [0, 1] after every change.

    Columns: factors of brightness, contrast and saturation (1 leaves as is), hue shift in turns (0 leaves as
    is), and 1 to end in grey, else 0.
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
    hue = torch.where(
        value == red,
        (green - blue) / unit,
        torch.where(value == green, 2 + (blue - red) / unit, 4 + (red - green) / unit),
    )
    # each channel is `value` less `chroma` times one trapezium over the circle, put at 5, 3 and 1 sixths
    # (made on the device: Python numbers would have to be copied there, which a CUDA graph forbids)
    start = 5 - 2 * torch.arange(3, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    place = hue + 6 * turns + start
    place = place - 6 * (place / 6).floor_()
    return value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1)


def taps(size: int, radius: int, device: torch.device | str | None = None) -> Tensor:
    """Where each tap of a kernel falls, the image mirrored about its edge pixels: float32 [2 * radius + 1,
    S²].

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

    Separable, as two products with a banded matrix per image: faster on a CPU than grouped convolutions, and
    the mirrored border costs nothing.
    """
    size, radius = image.shape[-1], taps.shape[0] // 2
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    # far below one pixel the kernel is exactly the identity, without a division by nought
    weight = (-0.5 * (offset / sigma.to(image.dtype).clamp(min=0.01)[:, None]).square()).exp()
    weight = weight / weight.sum(1, keepdim=True)
    band = (weight @ taps.to(image.dtype)).view(-1, 1, size, size)
    return band @ image @ band.transpose(-1, -2)
