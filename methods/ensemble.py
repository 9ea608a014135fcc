"""Several supervised networks, averaged: the control for capacity."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from benchmark.losses import mean_logits
from benchmark.method import Batch, Clock, Logits, Method, Parts, Task
from benchmark.ranges import Range


class Ensemble(Method):
    """Ensemble (Lakshminarayanan et al. 2017, NeurIPS): networks trained on labelled images, predictions averaged.

    A control, not a rival: a method that trains or predicts with several networks must beat this with as many, or its
    gain may be one of capacity. The networks differ by their initial weights alone; all see the same images.

    Loss:
        L = sum_k L_sup(f_k(x_l), y); prediction: mean_k softmax f_k(x).

    Args:
        members: number of networks; 3 for Semi-MoE's experts, 2 for CPS.
    """

    display = "Ensemble"

    def __init__(self, task: Task, *, members: Annotated[int, Range("[1, 100]")] = 3) -> None:
        super().__init__()
        self.task = task
        self.nets = nn.ModuleList(task.network() for _ in range(members))

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        for k, net in enumerate(self.nets, start=1):
            yield {f"supervised/{k}": self.task.criterion(net(labelled.weak), labelled.mask)}

    def predict(self, image: Tensor) -> Logits:
        return mean_logits([net(image) for net in self.nets])
