"""Perturbations of features, most of them CCT's: pure functions of tensors that draw from torch's generator.

Features are [B, C, h, w]; a mask of foreground is bool [B, 1, h, w]. All shapes are fixed, so a step that uses them
can be captured in a CUDA graph, the search for objects included.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.losses import kl_divergence


def feature_noise(z: Tensor, amount: float = 0.3) -> Tensor:
    """z (1 + u), u ~ U(-amount, amount) of the shape of one image's feature, the same for the whole batch."""
    return z * (1 + amount * (2 * torch.rand_like(z[0]) - 1))


def feature_drop(z: Tensor, low: float = 0.7, high: float = 0.9) -> Tensor:
    """Zero where the mean over channels exceeds g times its maximum in that image; one g ~ U(low, high) a call."""
    activity = z.mean(1, keepdim=True)
    share = low + (high - low) * torch.rand((), dtype=z.dtype, device=z.device)
    return z * (activity <= share * activity.amax((2, 3), keepdim=True))


def dropout(z: Tensor, rate: float = 0.5) -> Tensor:
    """Zero whole channels with probability `rate` and scale the others by 1 / (1 - rate)."""
    return F.dropout2d(z, rate)


def of_length(z: Tensor, length: float = 1.0) -> Tensor:
    """Every image's tensor scaled to this Euclidean length; one that vanishes stays zero."""
    return length * z / torch.linalg.vector_norm(z, dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)


def vat(z: Tensor, decoder: Callable[[Tensor], Tensor], length: float = 2.0) -> Tensor:
    """z + r, |r| = length in every image, where r changes the decoder's prediction most (VAT, one power iteration).

    r is along H d for a random direction d, H the Hessian in r of sum KL(softmax g(z) || softmax g(z + r)) at r = 0.
    Published code has the gradient at r = xi d with xi = 1e-6 instead, whose limit this is: in single precision
    z + xi d is z but for rounding, and the direction mostly noise. r carries no gradient, and parameters gain none.
    """
    with torch.enable_grad():
        place = z.detach().requires_grad_()
        logits = decoder(place.view_as(place))  # no leaf: FlopCounterMode cannot follow `grad` to a module's input
        divergence = kl_divergence(logits.detach(), logits).sum()
        (slope,) = torch.autograd.grad(divergence, place, create_graph=True)
        (curved,) = torch.autograd.grad(slope, place, torch.randn_like(place))
    return z + length * of_length(curved.detach())


def foreground(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the most likely class is not 0: logits [B, C, H, W] -> bool [B, 1, h, w], no gradient."""
    mask = (logits.detach().argmax(1, keepdim=True) != 0).float()
    return F.interpolate(mask, size, mode="nearest-exact") > 0


def context_mask(z: Tensor, mask: Tensor) -> Tensor:
    """Keep the foreground, hide the background."""
    return z * mask


def object_mask(z: Tensor, mask: Tensor) -> Tensor:
    """Keep the background, hide the foreground."""
    return z * ~mask


def components(mask: Tensor) -> Tensor:
    """The 8-connected components of a mask: int64 [B, 1, h, w], the largest 1-based pixel number in each, 0 outside.

    Numbers spread by 3x3 maximum, one pixel an iteration. A shortest path meets a 2x2 block in at most two pixels, so
    it has no more than twice as many pixels as there are blocks: that many iterations reach all, however winding.
    """
    height, width = mask.shape[-2:]
    blocks = ((height + 1) // 2) * ((width + 1) // 2)
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32, device=mask.device).view(1, 1, height, width)
    numbers = numbers * mask
    for _ in range(2 * blocks - 1):
        numbers = F.max_pool2d(numbers, 3, stride=1, padding=1) * mask
    return numbers.long()


def object_boxes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The bounding boxes of a mask's components: upper left corners and sides, float [B, h w, 2] each, (y, x).

    One slot a pixel, of which an object fills one; the sides of an empty slot are negative.
    """
    count, _, height, width = mask.shape
    owner = components(mask).flatten(1)
    row, column = torch.meshgrid(
        torch.arange(height, device=mask.device), torch.arange(width, device=mask.device), indexing="ij"
    )
    firsts, sides = [], []
    for place, length in ((row, height), (column, width)):
        spot = place.flatten().expand(count, -1)
        slots = (count, height * width + 1)
        first = torch.full(slots, length, device=mask.device).scatter_reduce(1, owner, spot, "amin")[:, 1:]
        last = torch.full(slots, -1, device=mask.device).scatter_reduce(1, owner, spot, "amax")[:, 1:]
        firsts.append(first)
        sides.append(last - first + 1)
    return torch.stack(firsts, -1).float(), torch.stack(sides, -1).float()


def cutout(z: Tensor, boxes: tuple[Tensor, Tensor], share: float = 0.4) -> Tensor:
    """Zero a window of `share` of each side, at a random place within the box of every object.

    A position is erased when its centre lies in a window: of a side of n at most ceil(share n) positions.
    """
    corner, side = boxes
    start = corner + torch.rand_like(corner) * (1 - share) * side
    stop = start + share * side
    inside = []
    for axis, length in enumerate(z.shape[-2:]):
        centre = torch.arange(length, device=z.device) + 0.5
        inside.append(((centre >= start[..., axis, None]) & (centre < stop[..., axis, None])).float())
    rows, columns = inside  # [B, slots, length]
    windows = rows.mT @ columns  # how many lie over each position
    return z * (windows == 0).unsqueeze(1)
