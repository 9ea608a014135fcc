"""What XNet (Zhou et al., ICCV 2023) is made of: frequencies of images, and two U-Nets that exchange features.

Low- and high-frequency images come from one level of the discrete wavelet transform, in tensor code. Filters are
PyWavelets', borders are mirrored as in its mode "symmetric". Plain sums of shifted images, not a convolution: those
stay exact under TF32 and autocast, and nothing there has a gradient or asks the device.

Of `TwoBranches` widths, kernels and the arrangement are those of the authors' public code, where both come to
326,177,668 parameters for 3 + 1 channels and 2 classes: two of `ResidualUNet` (135,816,194 with 3 channels) and two
exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pywt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmark.method import NotApplicable, require, suggest
from benchmark.nets.network import Network, initialise
from benchmark.nets.residual import ResidualUNet, conv_bn_relu, up_conv

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode "L"
SMALL = 1 / 255  # one grey level: contrast below it is rounding and is not blown up


def check_wavelet(name: str) -> None:
    """UserError where PyWavelets has no discrete wavelet of this name."""
    known: list[str] = pywt.wavelist(kind="discrete")
    what = "method.wavelet must be a discrete wavelet of PyWavelets, such as haar, db2 or bior1.5"
    require(name in known, f"{what}, not '{name}'.{suggest(name, known)}")


def analyse(x: Tensor, taps: Sequence[float]) -> Tensor:
    """One filter f of L taps along n values, every second result: c_i = sum_k f_k x_(2i+1-k), i < (n + L - 1) // 2."""
    n, taken = x.shape[-1], (x.shape[-1] + len(taps) - 1) // 2
    place = torch.arange(2 - len(taps), 2 * taken, device=x.device) % (2 * n)
    mirrored = x.index_select(-1, torch.minimum(place, 2 * n - 1 - place))
    total = x.new_zeros((*x.shape[:-1], taken))
    for start, tap in enumerate(reversed(taps)):
        total = torch.add(total, mirrored[..., start : start + 2 * taken : 2], alpha=tap)
    return total


def first_inside(taps: Sequence[float]) -> int:
    """Index of the coefficient whose filter's energy is centred on the first two pixels.

    With L taps, L / 2 - 1 coefficients describe the mirrored border. Stretched over the image together with the others
    they would move its content, by up to 2 pixels with db2 and 30 with dmey.
    """
    centre = sum(k * tap * tap for k, tap in enumerate(taps)) / sum(tap * tap for tap in taps)
    return round((centre - 0.5) / 2)


def dwt2(image: Tensor, wavelet: str, *, inside: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """LL, LH, HL, HH of [..., H, W]: cA, cH, cV, cD of `pywt.dwt2`; `inside` keeps one value for two pixels."""
    low, high = pywt.Wavelet(wavelet).dec_lo, pywt.Wavelet(wavelet).dec_hi

    def along(x: Tensor, taps: Sequence[float]) -> Tensor:
        found, first = analyse(x, taps), first_inside(taps)
        return found[..., first : first + (x.shape[-1] + 1) // 2] if inside else found

    smooth, rough = along(image, low), along(image, high)
    ll, lh, hl, hh = (along(x.mT, taps).mT for x in (smooth, rough) for taps in (low, high))
    return ll, lh, hl, hh


def standardise(image: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 of every image and channel; (nearly) constant ones become 0."""
    centred = image - image.mean((2, 3), keepdim=True)
    return centred / centred.square().mean((2, 3), keepdim=True).sqrt().clamp(min=SMALL)


def stretch(band: Tensor) -> Tensor:
    """To [0, 1] by the least and the greatest value of every image and channel."""
    least, most = band.amin((2, 3), keepdim=True), band.amax((2, 3), keepdim=True)
    return (band - least) / (most - least).clamp(min=SMALL)


def resize(band: Tensor, like: Tensor) -> Tensor:
    """Bilinearly to the height and width of `like`."""
    return interpolate(band, like.shape[-2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def low_frequency(image: Tensor, wavelet: str) -> Tensor:
    """The LL band of every channel at the size of the image [B, C, H, W], standardised."""
    return standardise(resize(dwt2(image, wavelet, inside=True)[0], image))


@torch.no_grad()
def high_frequency(image: Tensor, wavelet: str, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """LH + HL + HH, each stretched to [0, 1], of the grey image: [B, 3, H, W] -> [B, 1, H, W], standardised.

    `mean` and `std` are those that `image`, once in [0, 1], was normalised with.
    """
    channels = zip(GREY, image.split(1, dim=1), std, mean, strict=True)
    grey = sum((share * (channel * s + m) for share, channel, s, m in channels), torch.zeros_like(image[:, :1]))
    _, *details = dwt2(grey, wavelet, inside=True)
    return standardise(resize(stretch(torch.cat(details, dim=1)).sum(1, keepdim=True), image))


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
        return [
            transition(torch.cat((own, equal, resize(other, own)), dim=1)) for transition, own, equal, other in levels
        ]


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
