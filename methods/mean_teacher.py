"""Mean Teacher."""

from __future__ import annotations

import math

from torch import Tensor

from benchmark.ema import BNStats, EmaStep, Teacher, add_noise
from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task, require_between


class MeanTeacher(Method):
    """Tarvainen & Valpola 2017 (NeurIPS): a slow copy of the network judges unlabelled images.

    L = L_sup + w(t) mean (softmax f(x) - softmax f'(x + n))^2, n = clip(noise N(0, 1), -2 noise, 2 noise) on the
    normalised input of the teacher f', which follows theta' = a theta' + (1 - a) theta, a = min(1 - 1/(t+1), decay).
    Published code differs: XNet counts t in epochs (`ema_step=epoch`), so that its teacher equals its student during
    the first epoch and reaches 0.99 halfway; PyMIC discards the average; USB compares a view with itself. SSL4MIS has
    w = 0.1 with a sigmoid ramp and no consistency for 1,000 steps, XNet w = 5 with a linear ramp; the default is
    XNet's, which is behind the paper's table. The teacher's BatchNorm statistics are averaged like its weights; `own`
    is what the published code bases do.
    """

    display = "Mean Teacher"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, decay: float = 0.99, weight: float = 5.0, noise: float = 0.1,
        ramp: Ramp = "linear", ema_step: EmaStep = "iteration", bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        require_between(0, 1, decay=decay)
        require_between(0, math.inf, weight=weight, noise=noise)
        self.task = task
        self.net = task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.decay, self.weight, self.noise, self.ramp, self.ema_step = decay, weight, noise, ramp, ema_step

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        teacher_prob = self.teacher(add_noise(unlabelled.weak, self.noise)).softmax(1)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        student_prob = self.net(unlabelled.weak).softmax(1)
        yield {"consistency": self.weight * clock.ramp(self.ramp) * mse(student_prob, teacher_prob)}

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay, self.ema_step))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
