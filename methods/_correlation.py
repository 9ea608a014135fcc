"""CorrMatch's correlation between the positions of a feature, and pseudo-labels that spread along it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 256


class Correlation(nn.Module):
    """How alike the positions of a feature [B, width, h, w] are: [B, hw, hw], every row sums to 1."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Conv2d(width, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Dropout2d(0.1))
        self.first, self.second = nn.Conv2d(WIDTH, classes, 1), nn.Conv2d(WIDTH, classes, 1)

    def forward(self, feature: Tensor) -> Tensor:
        projected = self.project(feature)
        rows, columns = self.first(projected).flatten(2), self.second(projected).flatten(2)
        return (rows.mT @ columns / math.sqrt(rows.shape[1])).softmax(-1)


def correlated(logits: Tensor, affinity: Tensor) -> Tensor:
    """Logits [B, C, H, W], no gradient, carried from each position to those it is like; at the image's size."""
    size = logits.shape[-2:]
    side = math.isqrt(affinity.shape[-1])
    small = F.interpolate(logits.detach(), (side, side), mode="bilinear", align_corners=False)
    carried = (small.flatten(2).to(affinity.dtype) @ affinity).view(small.shape)
    return F.interpolate(carried, size, mode="bilinear", align_corners=False)


def regions(affinity: Tensor, count: int = 128) -> Tensor:
    """Of `count` random rows the positions above half of the row's range: bool [B, count, hw]."""
    rows = affinity.detach()[:, torch.randint(0, affinity.shape[1], (count,), device=affinity.device)]
    low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
    return rows - low > 0.5 * (high - low)


def propagate(
    label: Tensor, confident: Tensor, region: Tensor, classes: int, threshold: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels [B, S, S] and which of them are confident, after whole regions [B, K, hw] have taken one class.

    A region takes a class where the share of its pixels that are confident reaches `threshold`, and the share of these
    that have this class is above it. Where such regions of several classes meet, most of them win.
    """
    with torch.autocast(label.device.type, enabled=False):  # shares are compared with a threshold near 1
        side = math.isqrt(region.shape[-1])
        step = label.shape[-1] // side
        kinds = torch.arange(classes, device=label.device).view(1, -1, 1, 1)
        hot = ((label.unsqueeze(1) == kinds) & confident.unsqueeze(1)).to(threshold.dtype)
        pixels = F.avg_pool2d(hot, step).flatten(2)  # of every position the share of each class, confident alone
        inside = region.to(threshold.dtype)
        by_class = inside @ pixels.mT
        known, most = by_class.sum(-1), by_class.max(-1)
        taken = (known >= threshold * inside.sum(-1)) & (most.values > threshold * known) & (known > 0)
        ballot = taken.unsqueeze(-1) * F.one_hot(most.indices, classes)
        votes = (inside.mT @ ballot.to(inside.dtype)).mT.unflatten(-1, (side, side))
        votes = votes.repeat_interleave(step, -2).repeat_interleave(step, -1)
        won = votes.sum(1) > 0
        return torch.where(won, votes.argmax(1), label), confident | won
