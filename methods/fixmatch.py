"""FixMatch."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from benchmark.losses import IGNORE, cross_entropy, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task, require_between


class FixMatch(Method):
    """Sohn et al. 2020 (NeurIPS): what is certain of the weak view is the label of the strong one.

    L = L_sup + weight sum_i m_i CE(f(strong)_i, y_i) / N, with q = softmax f(weak) without gradient, y = argmax q and
    m = [max q >= threshold]. N counts all pixels, not the confident ones: while few are, the term is small. The strong
    view is jittered, blurred and, as in the segmentation form of UniMatch's authors (Yang et al. 2023), CutMixed with
    another image, whose y and m its rectangle brings along. They halve the sum: a factor on the learning rate.
    Pseudo-labels come from a pass in training mode. That of UniMatch judges the image itself in training mode and the
    pasted one in evaluation mode, so that two BatchNorms label one picture; here one does, that of the strong pass.
    SSL4MIS sets rejected pixels to class 0 and trains on them with full weight: `rejected=background`. It compares
    (max q - min q) / max q with 0.8, of two classes max q with 0.83, weighs by 0.1 and adds Dice and negative learning.
    """

    display = "FixMatch"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong")}

    def __init__(
        self, task: Task, *, weight: float = 1.0, threshold: float = 0.95, ramp: Ramp = "constant",
        rejected: Literal["ignored", "background"] = "ignored",
    ) -> None:
        super().__init__()
        require_between(0, 1, threshold=threshold)
        require_between(0, math.inf, weight=weight)
        self.task = task
        self.net = task.network()
        self.weight, self.threshold, self.ramp, self.rejected = weight, threshold, ramp, rejected

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        with torch.no_grad():
            label = pseudo_label(self.net(unlabelled.weak), self.threshold)
        self.log("confident", (label != IGNORE).float().mean())
        if self.rejected == "background":
            label = torch.where(label == IGNORE, 0, label)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        nll = cross_entropy(self.net(unlabelled.strong), unlabelled.cutmix("strong", label), over="all")
        yield {"strong": self.weight * clock.ramp(self.ramp) * nll}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
