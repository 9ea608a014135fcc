"""Uncertainty rectified pyramid consistency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.losses import kl_divergence, mean_logits
from benchmark.method import Batch, Clock, Logits, Method, NotApplicable, Parts, Ramp, Task
from benchmark.ranges import Choice, Log, NonNegative
from methods._feature_perturbations import dropout, feature_noise

SCALES = 4


def rectified(scales: Sequence[Tensor], kl: Literal["paper", "swapped"] = "paper") -> Tensor:
    """The consistency term D of S predictions, logits [B, C, H, W] each."""
    average = mean_logits(scales)
    average_prob = average.softmax(1)
    terms = []
    for logits in scales:
        divergence = kl_divergence(logits, average) if kl == "paper" else kl_divergence(average, logits)
        certainty = torch.exp(-divergence).unsqueeze(1)
        error = (average_prob - logits.to(average_prob.dtype).softmax(1)).square()
        terms.append((error * certainty).mean() / (certainty.mean() + 1e-8) + divergence.mean())
    return torch.stack(terms).mean()


class URPC(Method):
    """URPC (Luo et al. 2021, MICCAI): predictions of four scales should agree, less where they diverge.

    Beside the network's head, 1x1 heads on the next three coarser maps, enlarged to the image (nearest).

    Loss:
        L = mean_s L_sup(p_s) + w(t) D, D = 1/S sum_s [mean((p - p_s)^2 e_s) / (mean e_s + 1e-8) + mean D_s]
        p = mean_s p_s, with gradient, as published; D_s = KL(p_s || p) per pixel, e_s = exp(-D_s)

    Args:
        weight: w at the end of the ramp. SSL4MIS's 0.1 beside (CE + Dice) / 2 is 0.2 beside CE + Dice. XNet: 1.
        ramp: of w. Sigmoid in SSL4MIS, linear in XNet.
        kl: `swapped` is KL(p || p_s), of SSL4MIS and PyMIC; the paper and XNet have KL(p_s || p).
        perturb: channel dropout (0.5) and noise before each auxiliary head, as in the paper; XNet has neither.

    Differs from published code:
        - SSL4MIS perturbs with one kind a scale (noise, feature drop, dropout, fine to coarse); it and XNet have 3x3
          heads.
    """

    display = "URPC"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.02, 2), "ramp": Choice("constant", "linear", "sigmoid")}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.2, ramp: Ramp = "sigmoid",
        kl: Literal["paper", "swapped"] = "paper", perturb: bool = True,
    ) -> None:
        super().__init__()
        self.task, self.weight, self.ramp, self.kl, self.perturb = task, weight, ramp, kl, perturb
        self.net = task.network()
        widths = self.net.map_widths[::-1]
        if len(widths) < SCALES:
            raise NotApplicable(f"urpc compares {SCALES} scales, and '{task.net}' decodes to {len(widths)}")
        with task.init_seed():
            self.heads = nn.ModuleList(nn.Conv2d(width, task.classes, 1) for width in widths[1:SCALES])

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """Logits [B, C, H, W] of all scales at the image's size, fine to coarse."""
        *coarser, finest = self.net.decode(self.net.encode(image))
        logits = [self.net.head(finest)]
        for head, features in zip(self.heads, coarser[: -SCALES : -1], strict=True):
            if self.perturb and self.training:
                features = feature_noise(dropout(features))
            logits.append(F.interpolate(head(features), image.shape[-2:], mode="nearest"))
        return logits

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        supervised = [self.task.criterion(logits, labelled.mask) for logits in self.pyramid(labelled.weak)]
        yield {"supervised": torch.stack(supervised).mean()}
        unsup_loss = rectified(self.pyramid(unlabelled.weak), self.kl)
        yield {"consistency": self.weight * clock.ramp(self.ramp) * unsup_loss}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
