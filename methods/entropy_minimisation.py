"""Entropy minimisation."""

from __future__ import annotations

import math

from torch import Tensor

from benchmark.losses import entropy
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task, require_between


class EntropyMinimisation(Method):
    """Grandvalet & Bengio 2004 (NeurIPS), Vu et al. 2019 (CVPR): be sure of every pixel of unlabelled images.

    L = L_sup + w(t) mean_pixels( -1/log(C) sum_c p_c log p_c ), with gradient through every p (ADVENT's MinEnt, eq. 3,
    whose w is 0.001 for domain adaptation). Published code for histology differs: SSL4MIS has w = 0.1 on labelled and
    unlabelled images and fixes C at 4; XNet has w = 1 and adds an entropy term of weight 1, without a ramp, on labelled
    images to its "supervised" loss (`labelled_weight=1`). The default is SSL4MIS's weight on unlabelled images alone,
    with the true C.
    """

    display = "Entropy minimisation"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, weight: float = 0.1, ramp: Ramp = "sigmoid", labelled_weight: float = 0.0
    ) -> None:
        super().__init__()
        require_between(0, math.inf, weight=weight, labelled_weight=labelled_weight)
        self.task, self.weight, self.ramp, self.labelled_weight = task, weight, ramp, labelled_weight
        self.net = task.network()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        seen = self.net(labelled.weak)
        yield {
            "supervised": self.task.criterion(seen, labelled.mask),
            "labelled_entropy": self.labelled_weight * self.doubt(seen),
        }
        yield {"entropy": self.weight * clock.ramp(self.ramp) * self.doubt(self.net(unlabelled.weak))}

    def doubt(self, logits: Tensor) -> Tensor:
        """Mean entropy as a share of the largest possible one."""
        return entropy(logits).mean() / math.log(self.task.classes)

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
