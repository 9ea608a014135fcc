"""Cross pseudo supervision."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.losses import cross_entropy, dice_loss, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task
from benchmark.ranges import Choice, Log, NonNegative


class CPS(Method):
    """CPS (Chen et al. 2021, CVPR): two networks of one kind, started apart, teach each other by hard pseudo-labels.

    Started alike, the two would be one network that trains itself.

    Loss:
        L = L_sup(f1) + L_sup(f2) + w(t) [CE(f1(x), argmax f2(x)) + CE(f2(x), argmax f1(x))] (eq. 1 to 5)
        no gradient through argmax; every pixel teaches, however unsure

    Args:
        weight: w. 1.5 in the paper (VOC); 0.1 in SSL4MIS, 5 in XNet.
        ramp: of w. None in the paper; sigmoid in SSL4MIS, linear in XNet.
        pseudo_loss: `dice` is XNet's soft Dice for the pseudo-labels; cross-entropy in the paper and SSL4MIS.
        images: x. All of the step in the paper, `unlabelled` alone in SSL4MIS and XNet.

    Differs from published code:
        - XNet uses its own residual network and reports the better of the two; here the first is official.
        - The paper's form with CutMix is not built.
    """

    display = "CPS"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.3, 7.5), "ramp": Choice("constant", "linear", "sigmoid")}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.5, ramp: Ramp = "constant",
        pseudo_loss: Literal["ce", "dice"] = "ce", images: Literal["all", "unlabelled"] = "all",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.ramp, self.images = task, weight, ramp, images
        self.pseudo_loss = dice_loss if pseudo_loss == "dice" else cross_entropy
        self.first, self.second = task.network(), task.network()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        logits_l1, logits_u1 = self.first(labelled.weak), self.first(unlabelled.weak)
        logits_l2, logits_u2 = self.second(labelled.weak), self.second(unlabelled.weak)
        logits_1, logits_2 = logits_u1, logits_u2
        if self.images == "all":
            logits_1, logits_2 = torch.cat([logits_l1, logits_u1]), torch.cat([logits_l2, logits_u2])
        weight = self.weight * clock.ramp(self.ramp)
        return {
            "supervised/first": self.task.criterion(logits_l1, labelled.mask),
            "supervised/second": self.task.criterion(logits_l2, labelled.mask),
            "second_teaches_first": weight * self.pseudo_loss(logits_1, pseudo_label(logits_2)),
            "first_teaches_second": weight * self.pseudo_loss(logits_2, pseudo_label(logits_1)),
        }

    def predict(self, image: Tensor) -> Logits:
        return {"first": self.first(image), "second": self.second(image)}
