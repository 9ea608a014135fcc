"""TopoSemiSeg."""

from __future__ import annotations

from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import soft_cross_entropy
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task, two_phases
from benchmark.ranges import Choice, Count, Log, NonNegative, Share
from methods._persistence import topological_terms


def foregrounds(probability: Tensor) -> Tensor:
    """The map of every class but the background: [B, C, H, W] -> [B (C - 1), H, W]."""
    return probability[:, 1:].flatten(0, 1)


class TopoSemiSeg(Method):
    """TopoSemiSeg (Xu et al. 2024, ECCV): a teacher's pixels and, late in training, the topology of its foreground.

    Loss:
        L = L_sup + weight w(t) mean_pixels(-sum_c q_c log p_c) + [from `start` on] topology (L_signal + L_noise)
        p: the student on the photometric view; q: its moving average on the weak view, no gradient
        L_signal, L_noise: squares, summed over points of the 0-dimensional persistence diagrams of the two foreground
            maps, tile by tile, mean over images and foreground classes (`_persistence.py`)
        L_signal: the student's points of persistence above `signal`, matched to the teacher's (2-Wasserstein): P at
            birth and death goes to the teacher's; unmatched ones go to the diagonal. 0 for equal maps.
        L_noise: the student's other points go to the diagonal, also those that the teacher shares

    Args:
        weight: of the pixels' term. 0.1, by third parties' notes, which have it beside (CE + Dice) / 2: 0.2 would be
            theirs beside CE + Dice. No training code is public.
        ramp: w. Sigmoid over all of training, by the same notes.
        topology: weight of both topological terms. 0.002 in the released loss; 0.004 in the same way.
        start: share of training without topology; for the notes' 12,000 steps without and 500 epochs with it.
        signal: least persistence of a signal. 0.7 in the released loss.
        tile: side of the tiles in pixels. 100 in the released loss.
        released_targets: the released loss's mistake: it writes the teacher's births and deaths as 1 - P and compares
            them with P, so that L_signal is not 0 for equal maps and pulls confident glands down.
        decay: of the teacher. 0.999, by the same notes, of some 15,000 steps. In 400 steps it is the mean of all
            weights since the start.
        bn_stats: BatchNorm of the teacher: averaged as by the same notes, copied, or its own.

    Differs from published code:
        - The notes' average has the full decay from the first step; here it warms up as it does anywhere.
        - It matches by 1-Wasserstein in the maximum norm, and skips tiles that are 0 or 1 throughout.
        - It lets one of several points that share a pixel win; here they add up.
        - It takes the tile's corner as the death pixel of the component that never dies; here it has none.
    """

    display = "TopoSemiSeg"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "photometric")}
    cuda_graph = False
    cuda_graph_reason = "persistence is computed on the host"
    tuning = {"weight": Log(0.02, 2), "topology": Log(0.0004, 0.01), "decay": Choice(0.9, 0.99, 0.999)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.1, ramp: Ramp = "sigmoid", topology: NonNegative = 0.002,
        start: Share = 0.8, signal: Share = 0.7, tile: Count = 100, released_targets: bool = False,
        decay: Share = 0.999, bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        self.task, self.net = task, task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.weight, self.ramp, self.topology, self.decay = weight, ramp, topology, decay
        self.signal, self.tile, self.released_targets = signal, tile, released_targets
        self.phases = two_phases("pixels", "topology", start)
        self.phase = next(iter(self.phases))

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        teacher_prob = self.teacher(unlabelled.weak).softmax(1)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        student = self.net(unlabelled.photometric)
        terms = {"consistency": self.weight * clock.ramp(self.ramp) * soft_cross_entropy(student, teacher_prob)}
        if self.phase == "topology":
            topology, noise = topological_terms(
                foregrounds(student.softmax(1)), foregrounds(teacher_prob), signal=self.signal, tile=self.tile,
                released=self.released_targets,
            )
            terms |= {"topology": self.topology * topology, "noise": self.topology * noise}
        yield terms

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
