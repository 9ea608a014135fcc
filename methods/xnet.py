"""XNet."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from benchmark.losses import dice_loss, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, NotApplicable, Parts, Ramp, Task, require
from benchmark.ranges import Choice, Count, Log, NonNegative
from methods._xnet_parts import ConfiguredBranches, TwoBranches, check_wavelet, high_frequency, low_frequency


class XNet(Method):
    """XNet (Zhou et al. 2023, ICCV): branches for low and for high wavelet frequencies, fused, teach each other.

    One level of the wavelet transform splits an image: `low` is the LL band of every colour, `high` is LH + HL + HH of
    the grey image, each stretched to [0, 1]; both at the size of the image, standardised. The network is the method's
    own (326,177,668 parameters with width 64) and does not depend on net.name, unless `network=configured`.

    Loss:
        L = L_sup(low) + L_sup(high) + w(t) [Dice(p_low, argmax p_high) + Dice(p_high, argmax p_low)] on x_u
        no gradient through argmax; every pixel teaches, however unsure

    Args:
        weight: w at the end of the ramp. 5 in the authors' code, beside Dice.
        ramp: of w. Linear in the authors' code.
        wavelet: a discrete wavelet of PyWavelets. The authors recommend db2.
        low: what the first branch sees; `raw` is the image: what their code's 3 channels and statistics fit best.
        width: channels at the finest level, 16 times as many at the deepest. 64 in the authors' code.
        network: `configured` takes two of net.name, perhaps pretrained, which exchange their deepest features; ours.

    Differs from published code:
        - The authors split 8-bit images beforehand, at full resolution, and normalise by statistics of the dataset.
        - They report the branch that did better on the test images; here the low-frequency one is official.
        - Their ramp rises once an epoch, (e + 1) / E; ours, at every step, is half an epoch later on average.
        - Their Dice counts the background alone where a target has no foreground; ours counts both classes.
    """

    display = "XNet"
    later = {"network": "own"}
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.5, 25), "ramp": Choice("constant", "linear", "sigmoid")}

    def __init__(
        self, task: Task, *, weight: NonNegative = 5.0, ramp: Ramp = "linear", wavelet: str = "db2",
        low: Literal["wavelet", "raw"] = "wavelet", width: Count = 64,
        network: Literal["own", "configured"] = "own",
    ) -> None:
        super().__init__()
        check_wavelet(wavelet)
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
