"""Self-training on confident pixels: a small method that works, to be turned into yours."""

from __future__ import annotations

import math

from torch import Tensor

from benchmark.losses import cross_entropy, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task, require_between


class OwnMethod(Method):
    """Lee 2013 (ICML workshop): what the network is sure of is taken for the truth.

    L = L_sup + w(t) mean_pixels [max_c p_c >= threshold] (-log p_y), y = argmax_c p_c, without a gradient through y.

    Put your own in its place: above, authors, year, venue and the idea in one sentence (tables and `list` show it);
    here, the equation of every term with its source, what published code does otherwise, and why a default is what it
    is. What the method remembers must be a parameter or a buffer. Keyword-only arguments are its hyper-parameters.
    """

    views = {"labelled": ("weak",), "unlabelled": ("weak",)}  # also "strong" and "strong2"

    def __init__(self, task: Task, *, weight: float = 1.0, threshold: float = 0.9, ramp: Ramp = "linear") -> None:
        super().__init__()
        require_between(0, 1, threshold=threshold)
        require_between(0, math.inf, weight=weight)
        self.task, self.weight, self.threshold, self.ramp = task, weight, threshold, ramp
        self.net = task.network()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        seen, unseen = self.net(labelled.weak), self.net(unlabelled.weak)
        label = pseudo_label(unseen, self.threshold)  # 255, which every loss ignores, where it is not sure
        return {
            "supervised": self.task.criterion(seen, labelled.mask),
            "self": self.weight * clock.ramp(self.ramp) * cross_entropy(unseen, label, over="all"),
        }

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
