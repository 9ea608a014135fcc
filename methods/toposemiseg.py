"""TopoSemiSeg."""

from __future__ import annotations

import math

from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import soft_cross_entropy
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task, require_between
from methods._persistence import topological_terms


def foregrounds(probability: Tensor) -> Tensor:
    """The map of every class but the background: [B, C, H, W] -> [B (C - 1), H, W]."""
    return probability[:, 1:].flatten(0, 1)


class TopoSemiSeg(Method):
    """Xu et al. 2024 (ECCV): a teacher's pixels and, late in training, the topology of its foreground.

    L = L_sup + weight w(t) mean_pixels(-sum_c q_c log p_c) + topology (L_signal + L_noise); p: the student on the
    photometric view, q: its moving average on the weak view, without gradient. From the share `start` of training on,
    the 0-dimensional persistence diagrams of the two foreground maps are compared, tile by tile (`_persistence.py`).
    L_signal: points of persistence above `signal` are matched (2-Wasserstein); a matched pair pulls the student's P at
    its birth and death pixels to the teacher's, the student's other points go to the diagonal; 0 for equal maps.
    L_noise: the student's points of persistence up to `signal` go to the diagonal, also those that the teacher shares:
    a component that the student holds too faintly fades even where the teacher is sure of it. Squares, summed over
    points, mean over images. Of several classes each is a foreground against the rest, and the mean is over them, too.

    The released loss writes the teacher's births and deaths as 1 - P and compares them with P: L_signal is not 0 for
    equal maps and pulls confident glands down; `released_targets` brings that back. That code matches by 1-Wasserstein
    in the maximum norm, lets one of the points that share a pixel win where here they add up, takes the tile's corner
    as the death pixel of the component that never dies (cripser of its time) where here it has none, and skips tiles
    that are 0 or 1 throughout. Recipe: weight 0.1 with a sigmoid ramp, decay 0.999, 12,000 steps without topology, then
    500 epochs with it: `start` stands for those, as a share of training. The ramp runs over all of training.
    """

    display = "TopoSemiSeg"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "photometric")}
    cuda_graph = False
    cuda_graph_reason = "persistence is computed on the host"

    def __init__(
        self, task: Task, *, weight: float = 0.1, ramp: Ramp = "sigmoid", topology: float = 0.002, start: float = 0.8,
        signal: float = 0.7, tile: int = 100, released_targets: bool = False, decay: float = 0.999,
        bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        require_between(0, math.inf, weight=weight, topology=topology)
        require_between(0, 1, start=start, signal=signal, decay=decay)
        require_between(1, math.inf, tile=tile)
        self.task = task
        self.net = task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.weight, self.ramp, self.topology, self.decay = weight, ramp, topology, decay
        self.signal, self.tile, self.released_targets = signal, tile, released_targets
        self.phases = {"pixels": 0.0} if start > 0 else {}
        self.phases |= {"topology": start} if start < 1 else {}
        self.phase = next(iter(self.phases))

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        belief = self.teacher(unlabelled.weak).softmax(1)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        student = self.net(unlabelled.photometric)
        terms = {"consistency": self.weight * clock.ramp(self.ramp) * soft_cross_entropy(student, belief)}
        if self.phase == "topology":
            topology, noise = topological_terms(
                foregrounds(student.softmax(1)), foregrounds(belief), signal=self.signal, tile=self.tile,
                released=self.released_targets,
            )
            terms |= {"topology": self.topology * topology, "noise": self.topology * noise}
        yield terms

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
