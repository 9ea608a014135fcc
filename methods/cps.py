"""Cross pseudo supervision."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from benchmark.losses import cross_entropy, dice_loss, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task, require_between


class CPS(Method):
    """Chen et al. 2021 (CVPR): two networks of one kind, started apart, teach each other by hard pseudo-labels.

    L = L_sup(f1) + L_sup(f2) + w [CE(f1(x), argmax f2(x)) + CE(f2(x), argmax f1(x))], x all images of the step,
    labelled and unlabelled (eq. 1 to 5), w = 1.5 and no ramp (VOC), every pixel, no threshold. Started alike, the two
    would be one network that trains itself. Published code differs: SSL4MIS takes unlabelled images only and w = 0.1
    with a sigmoid ramp; XNet, behind the paper's table, takes unlabelled images only, soft Dice for the pseudo-labels
    (`pseudo_loss=dice`), w = 5 with a linear ramp, its own residual network, and reports the better of the two; here
    the first is official. The CutMix form of the original is not built.
    """

    display = "CPS"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, weight: float = 1.5, ramp: Ramp = "constant",
        pseudo_loss: Literal["ce", "dice"] = "ce", images: Literal["all", "unlabelled"] = "all",
    ) -> None:
        super().__init__()
        require_between(0, math.inf, weight=weight)
        self.task, self.weight, self.ramp, self.images = task, weight, ramp, images
        self.pseudo_loss = dice_loss if pseudo_loss == "dice" else cross_entropy
        self.first, self.second = task.network(), task.network()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        first = self.first(labelled.weak), self.first(unlabelled.weak)
        second = self.second(labelled.weak), self.second(unlabelled.weak)
        one, two = (torch.cat(net) if self.images == "all" else net[1] for net in (first, second))
        weight = self.weight * clock.ramp(self.ramp)
        return {
            "supervised/first": self.task.criterion(first[0], labelled.mask),
            "supervised/second": self.task.criterion(second[0], labelled.mask),
            "second_teaches_first": weight * self.pseudo_loss(one, pseudo_label(two)),
            "first_teaches_second": weight * self.pseudo_loss(two, pseudo_label(one)),
        }

    def predict(self, image: Tensor) -> Logits:
        return {"first": self.first(image), "second": self.second(image)}
