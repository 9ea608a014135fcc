"""What every network offers: encode -> decode -> head, so that methods can work between the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """An encoder, a decoder and a head; each is a module of its own, so methods may share or multiply them.

    `encoder(x)` gives the features, fine to coarse; `decoder(features)` the maps, coarse to fine, of which
    the last has the resolution of the image; `head(map)` turns that last map into logits.
    """

    encoder: nn.Module
    decoder: nn.Module
    head: nn.Module
    divisor: int  # sides of the image must be multiples of this
    feature_widths: tuple[int, ...]  # channels of the features, fine to coarse
    map_widths: tuple[int, ...]  # channels of the maps, coarse to fine

    @property
    def width(self) -> int:
        """Channels of the finest map: what a head of one's own takes."""
        return self.map_widths[-1]

    def encode(self, x: Tensor) -> list[Tensor]:
        """Image [B, channels, H, W] -> features, fine to coarse. Raises NotApplicable where there are no parts."""
        features: list[Tensor] = self.encoder(x)
        return features

    @torch.no_grad()
    def level(self, stride: int, image: Tensor) -> tuple[int, int]:
        """Which of the features of an image [1, channels, S, S] is the coarsest of at most this stride, and its stride.

        The finest one where all are coarser.
        """
        training = self.training
        strides = [image.shape[-1] // z.shape[-1] for z in self.eval().encode(image)]
        self.train(training)
        level = max((level for level, own in enumerate(strides) if own <= stride), default=0)
        return level, strides[level]

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features -> maps, coarse to fine; the last is [B, width, H, W]. Raises NotApplicable as `encode` does."""
        maps: list[Tensor] = self.decoder(features)
        return maps

    def last_map(self, x: Tensor) -> Tensor:
        """Image [B, channels, H, W] -> what the head sees of it: [B, width, H, W]."""
        return self.decode(self.encode(x))[-1]

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Features, fine to coarse -> logits [B, classes, H, W]."""
        logits: Tensor = self.head(self.decode(features)[-1])
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Image [B, channels, H, W] -> logits [B, classes, H, W]."""
        return self.logits(self.encode(x))


class SkipDecoder(nn.Module):
    """The decoder of a U-Net: upsample, join the encoder's feature of that level, merge; level by level.

    `ups` and `merges` run coarse to fine, one module per level; a merge takes twice the width of its level.
    """

    def __init__(self, ups: Sequence[nn.Module], merges: Sequence[nn.Module]) -> None:
        super().__init__()
        self.ups = nn.ModuleList(ups)
        self.merges = nn.ModuleList(merges)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features, fine to coarse -> maps, coarse to fine."""
        *skips, x = features
        maps = []
        for up, merge, skip in zip(self.ups, self.merges, reversed(skips), strict=True):
            x = merge(torch.cat((skip, up(x)), dim=1))
            maps.append(x)
        return maps


def initialise(network: nn.Module, mode: Literal["fan_in", "fan_out"]) -> None:
    """He et al. 2015: normal weights of layers, with biases at 0; BatchNorm keeps PyTorch's scale 1 and shift 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
