"""Entropy minimisation."""

from __future__ import annotations

import math

from torch import Tensor

from benchmark.losses import entropy
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Choice, Log, NonNegative


class EntropyMinimisation(Method):
    """Entropy minimisation (Grandvalet & Bengio 2004, NeurIPS; Vu et al. 2019, CVPR): be sure of every pixel.

    Loss:
        L = L_sup + w(t) mean_pixels(-1 / log(C) sum_c p_c log p_c), with gradient through every p (ADVENT's eq. 3)

    Args:
        weight: w. SSL4MIS's 0.1 beside (CE + Dice) / 2 is 0.2 beside CE + Dice. XNet: 1, ADVENT: 0.001.
        ramp: of w. Sigmoid in SSL4MIS, linear in XNet.
        labelled_weight: of the same term on labelled images, without a ramp. 1 in XNet's "supervised" loss.

    Differs from published code:
        - SSL4MIS takes the term on labelled images, too, and fixes C at 4; here C is the true one.
    """

    display = "Entropy minimisation"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.02, 2), "ramp": Choice("constant", "linear", "sigmoid")}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.2, ramp: Ramp = "sigmoid", labelled_weight: NonNegative = 0.0
    ) -> None:
        super().__init__()
        self.task, self.weight, self.ramp, self.labelled_weight = task, weight, ramp, labelled_weight
        self.net = task.network()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        logits_l = self.net(labelled.weak)
        yield {
            "supervised": self.task.criterion(logits_l, labelled.mask),
            "labelled_entropy": self.labelled_weight * self.normalised_entropy(logits_l),
        }
        yield {"entropy": self.weight * clock.ramp(self.ramp) * self.normalised_entropy(self.net(unlabelled.weak))}

    def normalised_entropy(self, logits: Tensor) -> Tensor:
        """Mean entropy as a share of the largest possible one."""
        return entropy(logits).mean() / math.log(self.task.classes)

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
