"""Uncertainty rectified pyramid consistency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.losses import kl_divergence, mean_logits
from benchmark.method import Batch, Clock, Logits, Method, NotApplicable, Parts, Ramp, Task, require_between
from methods._perturbations import dropout, feature_noise

SCALES = 4


def rectified(scales: Sequence[Tensor], kl: Literal["paper", "swapped"] = "paper") -> Tensor:
    """Deviation of S predictions from their mean, which counts less where they diverge: logits [B, C, H, W] -> scalar.

    1/S sum_s [ mean((p - p_s)^2 exp(-D_s)) / (mean(exp(-D_s)) + 1e-8) + mean(D_s) ], p the mean of the softmaxes p_s.
    """
    average = mean_logits(scales)
    belief = average.softmax(1)
    terms = []
    for logits in scales:
        divergence = kl_divergence(logits, average) if kl == "paper" else kl_divergence(average, logits)
        certainty = torch.exp(-divergence).unsqueeze(1)
        error = (belief - logits.to(belief.dtype).softmax(1)).square()
        terms.append((error * certainty).mean() / (certainty.mean() + 1e-8) + divergence.mean())
    return torch.stack(terms).mean()


class URPC(Method):
    """Luo et al. 2021 (MICCAI): predictions of four scales should agree, less where their divergence says uncertain.

    Beside the network's head, 1x1 heads on the next three coarser maps, enlarged to the image (nearest). Supervised:
    the mean of the criterion over the four. Unlabelled: weight ramp 1/S sum_s [ mean((p - p_s)^2 e_s) / mean e_s +
    mean D_s ], e_s = exp(-D_s), p the mean of the p_s, not detached, as published, and D_s = KL(p_s || p) per pixel;
    squares are means over classes as well, D_s sums over them. SSL4MIS and PyMIC have KL(p || p_s): `kl=swapped`.
    `perturb`: as in the paper, dropout (of channels, 0.5) and multiplicative noise before each auxiliary head, in
    training only; SSL4MIS has one kind a scale (noise, feature drop, dropout, fine to coarse), XNet none, and both have
    3x3 heads. Weight: 0.1 with a sigmoid ramp in SSL4MIS, the default; 1 with a linear one in XNet.
    """

    display = "URPC"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, weight: float = 0.1, ramp: Ramp = "sigmoid", kl: Literal["paper", "swapped"] = "paper",
        perturb: bool = True,
    ) -> None:
        super().__init__()
        require_between(0, math.inf, weight=weight)
        self.task, self.weight, self.ramp, self.kl, self.perturb = task, weight, ramp, kl, perturb
        self.net = task.network()
        widths = self.net.map_widths[::-1]
        if len(widths) < SCALES:
            raise NotApplicable(f"urpc compares {SCALES} scales, and '{task.net}' decodes to {len(widths)}")
        with task.init_seed():
            self.heads = nn.ModuleList(nn.Conv2d(width, task.classes, 1) for width in widths[1:SCALES])

    def scales(self, image: Tensor) -> Tensor:
        """Logits of all scales at the image's size, fine to coarse: [B, S, C, H, W]."""
        *coarser, finest = self.net.decode(self.net.encode(image))
        logits = [self.net.head(finest)]
        for head, features in zip(self.heads, coarser[: -SCALES : -1], strict=True):
            if self.perturb and self.training:
                features = feature_noise(dropout(features))
            logits.append(F.interpolate(head(features), image.shape[-2:], mode="nearest"))
        return torch.stack(logits, 1)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        supervised = [self.task.criterion(logits, labelled.mask) for logits in self.scales(labelled.weak).unbind(1)]
        yield {"supervised": torch.stack(supervised).mean()}
        pyramid = self.scales(unlabelled.weak).unbind(1)
        yield {"consistency": self.weight * clock.ramp(self.ramp) * rectified(pyramid, self.kl)}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
