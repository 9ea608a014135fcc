"""Pixels chosen at random, and a first-in-first-out memory of their features; all shapes are fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sample(chosen: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Up to `count` of the places where `chosen` [N] is true, at random: places [K], and bool [K], the real ones first.

    K is the smaller of `count` and N; places that are not real fill up what `chosen` lacks.
    """
    score = (1 + torch.rand(chosen.shape, device=chosen.device)) * chosen
    score, places = score.topk(min(count, len(chosen)))
    return places, score > 0


class PixelMemory(nn.Module):
    """The last `size` features of every class."""

    rows: Tensor
    stored: Tensor  # int64 [classes]: how many were ever stored

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("rows", torch.zeros(classes, size, width))
        self.register_buffer("stored", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def add(self, kind: int, features: Tensor, chosen: Tensor, most: int) -> None:
        """Store up to `most` of the features [N, width] that are `chosen` [N], in place of the oldest."""
        places, real = sample(chosen, min(most, self.size))
        slots = (self.stored[kind] + torch.arange(len(places), device=places.device)) % self.size
        rows = self.rows[kind]
        rows[slots] = torch.where(real[:, None], features[places].to(rows.dtype), rows[slots])
        self.stored[kind] += real.sum()

    def draw(self, kind: int, count: int) -> Tensor:
        """`count` random ones with repetition: [count, width]; nonsense while there is none."""
        held = self.stored[kind].clamp(1, self.size)
        return self.rows[kind][(torch.rand(count, device=held.device) * held).long()]
