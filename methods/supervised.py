"""Labelled images only: the lower bound at a few per cent of labels, the upper bound at 100 %."""

from __future__ import annotations

from torch import Tensor

from benchmark.method import Batch, Clock, Logits, Losses, Method, Task


class Supervised(Method):
    """Supervised (Ronneberger et al. 2015, MICCAI): one network trained on the labelled images alone.

    The lower bound of every table, and with `--ratio 100` the upper bound, where draws differ by seed alone. It gets as
    many updates by labelled images as any other method, so that a gain is not merely longer training (CCT issue 75).

    Loss:
        L = L_sup(f(x_l), y), the configured criterion.
    """

    display = "Supervised"

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.net = task, task.network()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        return {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
