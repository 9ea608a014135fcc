"""The networks of XNet (Zhou et al., ICCV 2023): two U-Nets whose encoders exchange their deepest features.

Of `TwoBranches` widths, kernels and the arrangement are those of the authors' public code, where both come to
326,177,668 parameters for 3 + 1 channels and 2 classes: two of `ResidualUNet` (135,816,194 with 3 channels) and two
exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.method import NotApplicable
from benchmark.nets.network import Network, initialise
from benchmark.nets.residual import ResidualUNet, conv_bn_relu, up_conv


class Exchange(nn.Module):
    """What one branch gives to the other, and how it takes in what the other gives."""

    def __init__(self, fourth: int, fifth: int) -> None:
        super().__init__()
        self.same = nn.ModuleList([conv_bn_relu(fourth, fourth), conv_bn_relu(fifth, fifth)])
        self.down = conv_bn_relu(fourth, fourth, stride=2)
        self.up = up_conv(fifth, fifth)
        joined = 2 * fourth + fifth, 2 * fifth + fourth
        self.transitions = nn.ModuleList(
            [conv_bn_relu(joined[0], fourth, kernel=1), conv_bn_relu(joined[1], fifth, kernel=1)]
        )

    def give(self, fourth: Tensor, fifth: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Per level (fourth, fifth): this branch's feature of that level, and its other one brought to that level."""
        same = [part(feature) for part, feature in zip(self.same, (fourth, fifth), strict=True)]
        return same, [self.up(fifth), self.down(fourth)]

    def take(self, mine: list[Tensor], same: list[Tensor], moved: list[Tensor]) -> list[Tensor]:
        """Per level: this branch's own feature beside both of the other branch's, by a 1x1 transition to one width."""
        levels = zip(self.transitions, mine, same, moved, strict=True)
        return [transition(torch.cat(parts, dim=1)) for transition, *parts in levels]


class TwoBranches(nn.Module):
    """A branch for `channels` low-frequency channels, one for a single high-frequency channel; finest width `width`."""

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.branches = nn.ModuleList([ResidualUNet(channels, classes, widths), ResidualUNet(1, classes, widths)])
        self.exchanges = nn.ModuleList(Exchange(*widths[-2:]) for _ in self.branches)
        self.divisor = 2 ** (len(widths) - 1)
        initialise(self.exchanges, "fan_out")

    def forward(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, channels, H, W] and [B, 1, H, W] -> two tensors of logits [B, classes, H, W]."""
        halves: list[Any] = list(zip(self.branches, self.exchanges, strict=True))
        fine, given = [], []
        for (branch, exchange), image in zip(halves, (low, high), strict=True):
            *shallow, fourth, fifth = branch.encoder.trunk(image)
            fine.append(shallow)
            given.append(exchange.give(branch.encoder.fourth[0](fourth), fifth))
        logits = []
        for k, (branch, exchange) in enumerate(halves):
            fourth, fifth = exchange.take(given[k][0], *given[1 - k])
            features = [*fine[k], branch.encoder.fourth[1](fourth), branch.encoder.fifth(fifth)]
            logits.append(branch.logits(features))
        return logits[0], logits[1]


class ConfiguredBranches(nn.Module):
    """Two networks of one kind, such as pretrained ones, that exchange the two deepest features of their encoders.

    The exchange stands between encoder and decoder, not between an encoder's stages, so that it fits every network.
    Raises NotApplicable for a network with fewer than two levels.
    """

    def __init__(self, nets: Sequence[Network]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nets)
        deepest = nets[0].feature_widths[-2:]
        if len(deepest) < 2:
            raise NotApplicable("xnet exchanges features of two levels, and the encoder of net.name has one")
        self.exchanges = nn.ModuleList(Exchange(*deepest) for _ in nets)
        self.divisor = nets[0].divisor
        initialise(self.exchanges, "fan_out")

    def forward(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, channels, H, W] and [B, 1, H, W], which is repeated -> two logits [B, classes, H, W]."""
        halves: list[Any] = list(zip(self.branches, self.exchanges, strict=True))
        images = low, high.expand_as(low)
        features = [net.encode(image) for (net, _), image in zip(halves, images, strict=True)]
        given = [exchange.give(*levels[-2:]) for (_, exchange), levels in zip(halves, features, strict=True)]
        first, second = (
            net.logits([*features[k][:-2], *exchange.take(given[k][0], *given[1 - k])])
            for k, (net, exchange) in enumerate(halves)
        )
        return first, second
