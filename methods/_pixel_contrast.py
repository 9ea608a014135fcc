"""What methods that compare pixels are made of: features, random pixels, a memory, InfoNCE; all shapes are fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import NotApplicable
from benchmark.nets.network import Network

WIDTH, TEMPERATURE = 64, 0.5


class Represented(nn.Module):
    """A network with a second head: features of its third finest map, for comparing pixels."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        if len(net.map_widths) < 3:
            raise NotApplicable("u2pl compares pixels of the third finest map, and this network has fewer")
        width = net.map_widths[-3]
        self.net = net
        self.project = nn.Sequential(
            nn.Conv2d(width, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C, S, S] and features [B, WIDTH, h, w]; a quarter of the side in a U-Net."""
        maps = self.net.decode(self.net.encode(image))
        return self.net.head(maps[-1]), self.project(maps[-3])


def info_nce(anchors: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    """-log e^(cos(a, z+) / T) / (e^(cos(a, z+) / T) + sum e^(cos(a, z-) / T)): [A, D], [D], [A, K, D] -> [A]."""
    others = torch.cat([positive.expand(len(anchors), 1, -1), negatives], 1)
    similarity = F.cosine_similarity(anchors.unsqueeze(1), others, dim=2) / TEMPERATURE
    return similarity.logsumexp(1) - similarity[:, 0]


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
