"""Low- and high-frequency images of a batch by one level of the discrete wavelet transform, in tensor code.

Filters come from PyWavelets; borders are mirrored as in its mode "symmetric". Plain sums of shifted images, not a
convolution: those stay exact under TF32 and autocast, and nothing here has a gradient or asks the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import pywt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.method import require, suggest

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
