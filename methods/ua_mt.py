"""Uncertainty-aware Mean Teacher."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import dropout2d

from benchmark.ema import BNStats, EmaStep, Teacher, add_noise
from benchmark.losses import entropy, mean_logits
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.nets.network import Network
from benchmark.ranges import Choice, Count, Log, NonNegative, Share, ShareBelow1


class UAMT(Method):
    """UA-MT (Yu et al. 2019, MICCAI): a Mean Teacher that is followed only where its own dropout leaves it certain.

    Loss:
        L = L_sup + w(t) sum(m (softmax f(x_u) - softmax f'(x_u + n))^2) / (C sum m), n clipped Gaussian noise (eq. 2)
        m = [U < H(t)], U = -sum_c p_c log p_c, p = mean of T teacher passes with noise and dropout (eq. 3, 4)
        H(t) = (3/4 + 1/4 r(t)) log C, r a sigmoid ramp

    Args:
        decay: of the teacher; 0.99 in all published code.
        weight: w at the end of the ramp. The authors' 0.1 beside (CE + Dice) / 2 is 0.2 beside CE + Dice. XNet: 0.05.
        ramp: of w. Sigmoid in the authors' code and SSL4MIS, linear in XNet.
        noise: standard deviation; 0.1 in all published code.
        passes: T; 8 in all published code.
        dropout: of channels at the deepest feature and the last map. 0.5 in the authors' V-Net, none in XNet's network.
        bound: `ln2` keeps the binary log 2 for any C, as SSL4MIS does; at C = 2 both are the same.
        ema_step: what the average's t counts. `epoch` in XNet.
        bn_stats: BatchNorm of the teacher: averaged, copied, or its `own` as in all published code.

    Differs from published code:
        - With `own`, all T passes are one batch of BatchNorm here; published code makes T/2 passes of a doubled batch.
        - SSL4MIS and PyMIC divide by 2 instead of C, for any C; XNet counts H's ramp in epochs.
    """

    display = "UA-MT"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.04, 5), "decay": Choice(0.9, 0.97, 0.99, 0.997), "noise": Log(0.02, 0.5)}

    def __init__(
        self, task: Task, *, decay: Share = 0.99, weight: NonNegative = 0.2, ramp: Ramp = "sigmoid",
        noise: NonNegative = 0.1, passes: Count = 8, dropout: ShareBelow1 = 0.5,
        bound: Literal["log_c", "ln2"] = "log_c", ema_step: EmaStep = "iteration", bn_stats: BNStats = "own",
    ) -> None:
        super().__init__()
        self.task, self.net = task, task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.decay, self.weight, self.ramp, self.noise = decay, weight, ramp, noise
        self.passes, self.dropout, self.ema_step = passes, dropout, ema_step
        self.max_entropy = math.log(task.classes if bound == "log_c" else 2)

    def forward_with_dropout(self, net: Network, image: Tensor) -> Tensor:
        """Logits under dropout, which works in training mode only."""
        *finer, deepest = net.encode(image)
        last = net.decode([*finer, dropout2d(deepest, self.dropout, self.training)])[-1]
        logits: Tensor = net.head(dropout2d(last, self.dropout, self.training))
        return logits

    @torch.no_grad()
    def teacher_logits(self, image: Tensor) -> Tensor:
        """The teacher's logits on a noisy image under dropout."""
        return self.forward_with_dropout(self.teacher.net, add_noise(image, self.noise))

    def certainty_mask(self, image: Tensor, ramp: Tensor) -> Tensor:
        """Where the mean of `passes` predictions has little entropy: bool [B, 1, H, W]."""
        passes = self.teacher_logits(image.repeat(self.passes, 1, 1, 1)).chunk(self.passes)
        return (entropy(mean_logits(passes)) < (0.75 + 0.25 * ramp) * self.max_entropy).unsqueeze(1)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        image = unlabelled.weak
        teacher_prob = self.teacher_logits(image).softmax(1)
        mask = self.certainty_mask(image, clock.ramp("sigmoid"))
        self.log("certain", mask.float().mean())
        yield {"supervised": self.task.criterion(self.forward_with_dropout(self.net, labelled.weak), labelled.mask)}
        squared = mask * (self.forward_with_dropout(self.net, image).softmax(1) - teacher_prob).square()
        unsup_loss = squared.sum() / (self.task.classes * mask.sum()).clamp(min=1)
        yield {"consistency": self.weight * clock.ramp(self.ramp) * unsup_loss}

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay, self.ema_step))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
