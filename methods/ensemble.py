"""Several supervised networks, averaged: the control for capacity."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.losses import mean_logits
from benchmark.method import Batch, Clock, Logits, Method, Parts, Task, require_between


class Ensemble(Method):
    """Lakshminarayanan et al. 2017 (NeurIPS): several networks trained on labelled images alone, predictions averaged.

    L = sum_k L_sup(f_k); prediction: mean_k softmax f_k. A control, not a rival: methods that train or predict with
    several networks must beat this with as many (`members`: 3 for Semi-MoE's experts, 2 for CPS), or their gain may be
    one of capacity. The networks differ by their initial weights alone; all see the same images.
    """

    display = "Ensemble"
    views = {"labelled": ("weak",)}

    def __init__(self, task: Task, *, members: int = 3) -> None:
        super().__init__()
        require_between(1, 100, members=members)
        self.task = task
        self.nets = nn.ModuleList(task.network() for _ in range(members))

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        for k, net in enumerate(self.nets, start=1):
            yield {f"supervised/{k}": self.task.criterion(net(labelled.weak), labelled.mask)}

    def predict(self, image: Tensor) -> Logits:
        return mean_logits([net(image) for net in self.nets])
