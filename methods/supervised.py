"""Labelled images only: the lower bound at a few per cent of labels, the upper bound at 100 %."""

from __future__ import annotations

from torch import Tensor

from benchmark.method import Batch, Clock, Logits, Method, Parts, Task
from benchmark.ranges import NonNegative


class Supervised(Method):
    """Supervised (Ronneberger et al. 2015, MICCAI): one network trained on the labelled images alone.

    The lower bound of every table, and with `--ratio 100` the upper bound, where draws differ by seed alone. It gets as
    many updates by labelled images as any other method, so that a gain is not merely longer training (CCT issue 75).

    Loss:
        L = L_sup(f(x_l), y) + strong L_sup(f(s), y'), the configured criterion; s: the strong view of the same image,
        with colours, blur and CutMix as in FixMatch; y': its label, mixed like s

    Args:
        strong: weight of the second term; 0: it is left out. With 1 it is a control for methods with strong views: what
            the same augmentation gains without unlabelled images. Ours.
    """

    display = "Supervised"
    later = {"strong": 0.0}

    def __init__(self, task: Task, *, strong: NonNegative = 0.0) -> None:
        super().__init__()
        self.task, self.net, self.strong = task, task.network(), strong
        self.views = {"labelled": ("weak", "strong") if strong else ("weak",)}

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        if self.strong:
            label = labelled.cutmix("strong", labelled.mask)
            yield {"strong": self.strong * self.task.criterion(self.net(labelled.strong), label)}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
