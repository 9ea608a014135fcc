"""The residual U-Net of XNet (Zhou et al., ICCV 2023), in blocks that build its two-branch form as well.

Every level holds residual *pairs*: two basic blocks of He et al. 2016. The one-branch network is published
as `XNet_sb`; kernels, widths and layer counts are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from benchmark.nets.network import Network, SkipDecoder, initialise

WIDTHS = (64, 128, 256, 512, 1024)


def conv(before: int, after: int, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A padded convolution."""
    return nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=bias)


def norm(width: int) -> nn.BatchNorm2d:
    """BatchNorm with the momentum of the authors' code."""
    return nn.BatchNorm2d(width, momentum=0.1)


def conv_bn_relu(before: int, after: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; stride 2 goes a level down, kernel 1 is XNet's transition in a fusion."""
    return nn.Sequential(conv(before, after, kernel, stride), norm(after), nn.ReLU(inplace=True))


def up_conv(before: int, after: int) -> nn.Sequential:
    """A level up: bilinear upsampling, then convolution (with a bias, unlike the others), BatchNorm, ReLU."""
    up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True)
    return nn.Sequential(up, conv(before, after, bias=True), norm(after), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the width changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn_relu(before, after), conv(after, after), norm(after))
        self.shortcut: nn.Module = nn.Identity()
        if before != after:
            self.shortcut = nn.Sequential(conv(before, after, kernel=1), norm(after))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, H, W] -> [B, after, H, W]."""
        total: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return total


def pair(before: int, after: int) -> nn.Sequential:
    """Two residual blocks."""
    return nn.Sequential(ResidualBlock(before, after), ResidualBlock(after, after))


class Trunk(nn.Module):
    """The way down: a stem, then per level a strided convolution and a residual pair."""

    def __init__(self, channels: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(conv(channels, first), conv(first, first), ResidualBlock(first, first))
        self.stages = nn.ModuleList(
            nn.Sequential(conv_bn_relu(a, b, stride=2), pair(b, b)) for a, b in pairwise(widths)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image -> one feature per level, fine to coarse."""
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class Encoder(nn.Module):
    """The trunk, and further pairs on its two deepest levels, between which two branches would be fused."""

    def __init__(self, channels: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        *_, fourth, fifth = widths
        self.trunk = Trunk(channels, widths)
        self.fourth = nn.Sequential(pair(fourth, fourth), pair(fourth, fourth))
        self.fifth = pair(fifth, fifth)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image -> one feature per level, fine to coarse."""
        *fine, fourth, fifth = self.trunk(x)
        return [*fine, self.fourth(fourth), self.fifth(fifth)]


def decoder(widths: Sequence[int] = WIDTHS) -> SkipDecoder:
    """The way up: per level an up-convolution, and a residual pair over it and the encoder's feature."""
    levels = list(pairwise(reversed(widths)))
    return SkipDecoder([up_conv(a, b) for a, b in levels], [pair(2 * b, b) for _, b in levels])


class ResidualUNet(Network):
    """XNet_sb. Of 135,816,194 parameters for 3 channels and 2 classes, 113,173,184 are the encoder's."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.divisor = 2 ** (len(widths) - 1)
        self.feature_widths = tuple(widths)
        self.map_widths = tuple(widths[-2::-1])
        self.encoder = Encoder(channels, widths)
        self.decoder = decoder(widths)
        self.head = conv(widths[0], classes, kernel=1, bias=True)
        initialise(self, "fan_out")
