"""Uncertainty-aware Mean Teacher."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import dropout2d

from benchmark.ema import BNStats, EmaStep, Teacher, add_noise
from benchmark.losses import entropy, mean_logits
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task, require_between, require_share
from benchmark.nets.network import Network


class UAMT(Method):
    """Yu et al. 2019 (MICCAI): a Mean Teacher that is followed only where its own dropout leaves it certain.

    p = mean of T noisy teacher passes under dropout, U = -sum_c p_c log p_c, H(t) = (3/4 + 1/4 r(t)) log C;
    L = L_sup + w(t) sum([U < H] (softmax f(x) - softmax f'(x + n))^2) / (C sum [U < H]), n clipped Gaussian noise
    (eq. 2 to 4). Dropout as in the authors' V-Net: whole channels, at the deepest feature and at the last map, in
    student and teacher. Published 2-D code differs: SSL4MIS and PyMIC keep the binary ln 2 or the factor 2 for any C
    (`bound=ln2`; at C = 2 all are the same); XNet's network has no dropout at all (`dropout=0`), so that its passes
    differ by input noise alone, and it counts the average's t in epochs (`ema_step=epoch`). w = 0.1, XNet 0.05.
    """

    display = "UA-MT"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, decay: float = 0.99, weight: float = 0.1, ramp: Ramp = "sigmoid", noise: float = 0.1,
        passes: int = 8, dropout: float = 0.5, bound: Literal["log_c", "ln2"] = "log_c",
        ema_step: EmaStep = "iteration", bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        require_between(0, 1, decay=decay)
        require_between(0, math.inf, weight=weight, noise=noise)
        require_between(1, math.inf, passes=passes)
        require_share(dropout=dropout)
        self.task, self.net = task, task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.decay, self.weight, self.ramp, self.noise = decay, weight, ramp, noise
        self.passes, self.dropout, self.ema_step = passes, dropout, ema_step
        self.most = math.log(task.classes if bound == "log_c" else 2)

    def dropped(self, net: Network, image: Tensor) -> Tensor:
        """Logits under dropout, which works in training mode only."""
        *finer, deepest = net.encode(image)
        last = net.decode([*finer, dropout2d(deepest, self.dropout, self.training)])[-1]
        logits: Tensor = net.head(dropout2d(last, self.dropout, self.training))
        return logits

    @torch.no_grad()
    def judge(self, image: Tensor) -> Tensor:
        """The teacher's logits on a noisy image under dropout."""
        return self.dropped(self.teacher.net, add_noise(image, self.noise))

    def certain(self, image: Tensor, ramp: Tensor) -> Tensor:
        """Where the mean of `passes` judgements has little entropy: bool [B, 1, H, W]."""
        passes = self.judge(image.repeat(self.passes, 1, 1, 1)).chunk(self.passes)
        return (entropy(mean_logits(passes)) < (0.75 + 0.25 * ramp) * self.most).unsqueeze(1)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        image, ramp = unlabelled.weak, clock.ramp(self.ramp)
        belief, mask = self.judge(image).softmax(1), self.certain(image, clock.ramp("sigmoid"))
        self.log("certain", mask.float().mean())
        yield {"supervised": self.task.criterion(self.dropped(self.net, labelled.weak), labelled.mask)}
        squared = mask * (self.dropped(self.net, image).softmax(1) - belief).square()
        yield {"consistency": self.weight * ramp * squared.sum() / (self.task.classes * mask.sum()).clamp(min=1)}

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay, self.ema_step))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
