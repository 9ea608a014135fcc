"""U-Net (Ronneberger et al. 2015) as semi-supervised work uses it: padded, with batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from benchmark.nets.network import Network, SkipDecoder, initialise


def conv_bn_relu(before: int, after: int, kernel: int = 3) -> nn.Sequential:
    """A convolution that keeps the size, with bias, then BatchNorm and ReLU."""
    conv = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def double_conv(before: int, after: int) -> nn.Sequential:
    """The block of every level: twice 3x3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(conv_bn_relu(before, after), conv_bn_relu(after, after))


def up_conv(before: int, after: int, kernel: int) -> nn.Sequential:
    """Nearest-neighbour upsampling and a convolution with BatchNorm and ReLU.

    A 1x1 convolution comes first: it does not mind repeated pixels, and before them it costs a quarter.
    """
    up, conv = nn.Upsample(scale_factor=2.0, mode="nearest"), conv_bn_relu(before, after, kernel)
    return nn.Sequential(conv, up) if kernel == 1 else nn.Sequential(up, conv)


class Encoder(nn.Module):
    """One block per level, each after the first behind a 2x2 max pooling."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(double_conv(a, b) for a, b in pairwise((channels, *widths)))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image -> one feature per level, fine to coarse."""
        features: list[Tensor] = []
        for block in self.blocks:
            features.append(block(self.pool(features[-1]) if features else x))
        return features


class UNet(Network):
    """A level per width, fine to coarse; `up_kernel` (1 or 3) is the side of the up-convolutions' kernels."""

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int] = (64, 128, 256, 512, 1024), up_kernel: int = 3
    ) -> None:
        super().__init__()
        self.divisor = 2 ** (len(widths) - 1)
        self.feature_widths = tuple(widths)
        self.map_widths = tuple(widths[-2::-1])
        levels = list(pairwise(reversed(widths)))
        self.encoder = Encoder(channels, widths)
        self.decoder = SkipDecoder(
            [up_conv(deep, level, up_kernel) for deep, level in levels],
            [double_conv(2 * level, level) for _, level in levels],
        )
        self.head = nn.Conv2d(widths[0], classes, 1)
        initialise(self, "fan_in")
