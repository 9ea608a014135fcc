"""FixMatch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.losses import IGNORE, cross_entropy, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Linear, Log, NonNegative, Share


class FixMatch(Method):
    """FixMatch (Sohn et al. 2020, NeurIPS): what is certain of the weak view is the label of the strong one.

    In the segmentation form of UniMatch's authors (Yang et al. 2023): the strong view is CutMixed as well, and every
    rectangle brings the pseudo-label of its image along.

    Loss:
        L = L_sup + weight ramp sum_i m_i CE(f(strong)_i, y_i) / N, over all N pixels: small while few are certain
        y = argmax q, m = [max q >= threshold], q = softmax f(weak), no gradient

    Args:
        weight: of the unsupervised term. 1 in both papers; 0.1 in SSL4MIS.
        threshold: on max q. 0.95 in both papers; 0.8 on (max q - min q) / max q in SSL4MIS (0.83 on max q at C = 2).
        ramp: of the weight. None in both papers.
        rejected: `background` trains on uncertain pixels as class 0, as SSL4MIS does.

    Differs from published code:
        - Yang et al. halve the sum, a factor on the learning rate, and label the pasted image in evaluation mode, the
          image itself in training mode: two BatchNorms for one picture. Here one labels both, in training mode.
        - SSL4MIS adds Dice and negative learning.
    """

    display = "FixMatch"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong")}
    tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.7, 0.98)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, threshold: Share = 0.95, ramp: Ramp = "constant",
        rejected: Literal["ignored", "background"] = "ignored",
    ) -> None:
        super().__init__()
        self.task, self.net = task, task.network()
        self.weight, self.threshold, self.ramp, self.rejected = weight, threshold, ramp, rejected

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        with torch.no_grad():
            label = pseudo_label(self.net(unlabelled.weak), self.threshold)
        self.log("confident", (label != IGNORE).float().mean())
        if self.rejected == "background":
            label = torch.where(label == IGNORE, 0, label)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        unsup_loss = cross_entropy(self.net(unlabelled.strong), unlabelled.cutmix("strong", label), over="all")
        yield {"strong": self.weight * clock.ramp(self.ramp) * unsup_loss}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
