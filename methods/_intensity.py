"""AugSeg's changes of intensity: each takes images [B, 3, H, W] in [0, 1] and a strength [B, 1, 1, 1] in [0, 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)


def grey(image: Tensor) -> Tensor:
    """Luminance, in three channels."""
    red, green, blue = image.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(1).expand_as(image)


def towards(image: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """Pillow's enhancement: 0.05 to 0.95 of the image, the rest of what it loses."""
    keep = 0.05 + 0.9 * strength
    return keep * image + (1 - keep) * other


def smooth(image: Tensor, strength: Tensor) -> Tensor:
    """Gaussian blur with a sigma of 0.1 to 2 pixels at 256 px."""
    sigma = (0.1 + 1.9 * strength) * image.shape[-1] / 256
    radius = math.ceil(6 * image.shape[-1] / 256)
    place = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (place / sigma.view(-1, 1)).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(image.shape[1], 0)
    flat, groups = image.flatten(0, 1).unsqueeze(0), len(kernel)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="reflect")
    flat = F.conv2d(flat, kernel.view(groups, 1, 1, -1), groups=groups)
    return F.conv2d(flat, kernel.view(groups, 1, -1, 1), groups=groups).view(image.shape)


def autocontrast(image: Tensor, strength: Tensor) -> Tensor:
    """Every channel stretched to [0, 1]."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    return torch.where(high > low, (image - low) / (high - low).clamp(min=1e-6), image)


def equalise(image: Tensor, strength: Tensor) -> Tensor:
    """Every channel's 8-bit values by the share of its pixels below, as Pillow; a channel of one value stays."""
    values = (image * 255).round().flatten(2)
    below = torch.searchsorted(values.sort(-1).values, values).view(image.shape)
    most = below.amax((2, 3), keepdim=True)
    return torch.where(most > 0, below.to(image.dtype) / most.clamp(min=1), image)


def soften(image: Tensor) -> Tensor:
    """Pillow's SMOOTH: (1, 1, 1; 1, 5, 1; 1, 1, 1) / 13, the border unchanged."""
    inner = image[..., 1:-1, 1:-1]
    return image + F.pad((9 * F.avg_pool2d(image, 3, 1) + 4 * inner) / 13 - inner, (1, 1, 1, 1))


def posterise(image: Tensor, strength: Tensor) -> Tensor:
    """4 to 8 bits a channel."""
    levels = 2 ** (4 + (5 * strength).floor())
    return (image * 255 / 256 * levels).floor() / levels


def hue(image: Tensor, strength: Tensor) -> Tensor:
    """Turned about the grey axis by up to half a circle, either way."""
    angle = math.pi * (2 * strength - 1)
    first, second, third = image.unbind(1)
    mean = image.mean(1, keepdim=True)
    across = torch.stack([third - second, first - third, second - first], 1) / math.sqrt(3)
    return mean + (image - mean) * angle.cos() + across * angle.sin()


OPERATIONS = {
    "identity": lambda image, strength: image,
    "autocontrast": autocontrast,
    "equalize": equalise,
    "blur": smooth,
    "contrast": lambda image, strength: towards(image, grey(image).mean((2, 3), keepdim=True), strength),
    "brightness": lambda image, strength: towards(image, torch.zeros_like(image), strength),
    "colour": lambda image, strength: towards(image, grey(image), strength),
    "sharpness": lambda image, strength: towards(image, soften(image), strength),
    "posterize": posterise,
    "solarize": lambda image, strength: torch.where(image >= strength, 1 - image, image),
    "hue": hue,
}


def change(image: Tensor, names: Sequence[str], most: int) -> Tensor:
    """Every image changed by 1 to `most` of these operations, at random strengths, in the order in which they stand."""
    shape, device = (len(image), len(names)), image.device
    rank = torch.rand(shape, device=device).argsort(1).argsort(1)
    count = 1 + (torch.rand(len(image), 1, device=device) * min(most, len(names))).floor()
    strengths = torch.rand(shape, device=device, dtype=image.dtype)
    for name, chosen, strength in zip(names, (rank < count).unbind(1), strengths.unbind(1), strict=True):
        changed = OPERATIONS[name](image, strength.view(-1, 1, 1, 1)).clamp(0, 1)
        image = torch.where(chosen.view(-1, 1, 1, 1), changed, image)
    return image
