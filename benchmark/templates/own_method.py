"""A small semi-supervised method that works, with a strong view and CutMix, to be turned into yours."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.losses import IGNORE, cross_entropy, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Linear, Log, NonNegative, Share


class OwnMethod(Method):
    """OwnMethod (authors year, venue): what the network is sure of in the weak view is taught to the strong one.

    Put your own in its place. `list`, `explain` and tables show what stands in these sections.

    Loss:
        L = L_sup + w(t) mean_pixels([q_y >= threshold] (-log p_y)), p = softmax f(strong), q = softmax f(weak)
        y = argmax q, no gradient

    Args:
        weight: w at the end of the ramp; say here where the value comes from.
        threshold: least probability of a pseudo-label.
        ramp: of w.

    Differs from published code:
        - what their code does otherwise.
    """

    display = "OwnMethod"  # the name in tables and figures
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong")}  # also "strong2" and "photometric"
    tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.7, 0.98)}  # where `tune` searches

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, threshold: Share = 0.9, ramp: Ramp = "linear"
    ) -> None:
        super().__init__()
        self.task, self.weight, self.threshold, self.ramp = task, weight, threshold, ramp
        self.net = task.network()  # all that a method remembers is a parameter, a buffer or a module

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        with torch.no_grad():
            label = pseudo_label(self.net(unlabelled.weak), self.threshold)  # 255, which losses ignore, where unsure
        self.log("confident", (label != IGNORE).float().mean())
        # flips, turns and crops are those of the weak view; of what CutMix pastes, `cutmix` brings the label along
        label = unlabelled.cutmix("strong", label)
        unsup_loss = cross_entropy(self.net(unlabelled.strong), label, over="all")
        yield {"unsupervised": self.weight * clock.ramp(self.ramp) * unsup_loss}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
