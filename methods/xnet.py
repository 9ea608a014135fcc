"""XNet."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from benchmark.losses import dice_loss, pseudo_label
from benchmark.method import (
    Batch,
    Clock,
    Logits,
    Method,
    NotApplicable,
    Parts,
    Ramp,
    Task,
    require,
    require_between,
    suggest,
)
from methods._two_branches import ConfiguredBranches, TwoBranches
from methods._wavelets import NAMES, high_frequency, low_frequency


class XNet(Method):
    """Zhou et al. 2023 (ICCV): a branch for low and a branch for high wavelet frequencies, fused, teach each other.

    L = L_sup(low) + L_sup(high) + w(t) [Dice(p_low, argmax p_high) + Dice(p_high, argmax p_low)], the last two terms
    on unlabelled images, argmax without gradient. One level of the wavelet transform splits an image: `low` is the LL
    band of every colour channel, `high` is LH + HL + HH of the grey image, each band stretched to [0, 1]; both are
    brought to the size of the image and to mean 0, standard deviation 1 per image. The authors write 8-bit images at
    the original resolution beforehand and normalise by statistics of the dataset; here the split belongs to the step.
    Their code has no statistics of db2's low-frequency images (db2 is their recommendation), makes those in grey only,
    and gives the first branch 3 channels: the published GlaS numbers most plausibly come from the plain RGB image
    there, which is `low=raw`. They report the branch that did better on the test images; here the low-frequency one is
    official. The network is the method's own and **does not depend on net.name**: 326,177,668 parameters with
    `width=64` channels at the finest level, 1024 at the deepest. `network=configured` takes two of net.name instead,
    pretrained where net.weights says so, which exchange their encoders' two deepest features (`width` is unused then).
    """

    display = "XNet"
    later = {"network": "own"}
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, weight: float = 5.0, ramp: Ramp = "linear", wavelet: str = "db2",
        low: Literal["wavelet", "raw"] = "wavelet", width: int = 64,
        network: Literal["own", "configured"] = "own",
    ) -> None:
        super().__init__()
        require_between(0, math.inf, weight=weight)
        require_between(1, math.inf, width=width)
        known = "method.wavelet must be a discrete wavelet of PyWavelets, such as haar, db2 or bior1.5"
        require(wavelet in NAMES, f"{known}, not '{wavelet}'.{suggest(wavelet, NAMES)}")
        if task.weights is not None and network == "own":
            raise NotApplicable("xnet's own network has no pretrained weights; use method.network=configured")
        self.task, self.weight, self.ramp, self.wavelet, self.low = task, weight, ramp, wavelet, low
        nets = [task.network(), task.network()] if network == "configured" else []
        with task.init_seed():
            self.net: TwoBranches | ConfiguredBranches = (
                ConfiguredBranches(nets) if nets else TwoBranches(task.channels, task.classes, width)
            )
        step = self.net.divisor
        require(task.size % step == 0, f"data.size must be a multiple of {step} for xnet, not {task.size}")

    def split(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the two branches see of images [B, 3, H, W]: [B, 3, H, W] and [B, 1, H, W]."""
        low = image if self.low == "raw" else low_frequency(image, self.wavelet)
        return low, high_frequency(image, self.wavelet, self.task.mean, self.task.std)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        low, high = self.net(*self.split(labelled.weak))
        yield {"supervised": self.task.criterion(low, labelled.mask) + self.task.criterion(high, labelled.mask)}
        low, high = self.net(*self.split(unlabelled.weak))
        cross = dice_loss(low, pseudo_label(high)) + dice_loss(high, pseudo_label(low))
        yield {"cross": self.weight * clock.ramp(self.ramp) * cross}

    def predict(self, image: Tensor) -> Logits:
        low, high = self.net(*self.split(image))
        return {"low": low, "high": high}
