"""Mean Teacher."""

from __future__ import annotations

from torch import Tensor

from benchmark.ema import BNStats, EmaStep, Teacher, add_noise
from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Choice, Log, NonNegative, Share


class MeanTeacher(Method):
    """Mean Teacher (Tarvainen & Valpola 2017, NeurIPS): a moving average of the network sets the target.

    Loss:
        L = L_sup + w(t) mean (softmax f(x_u) - softmax f'(x_u + n))^2, no gradient through the teacher f'
        n = clip(noise N(0, 1), -2 noise, 2 noise), on the normalised image
        theta' = a theta' + (1 - a) theta, a = min(1 - 1 / (t + 1), decay)

    Args:
        decay: of the teacher. 0.99 in XNet and SSL4MIS, 0.999 in the paper after the ramp.
        weight: w at the end of the ramp. 5 in XNet, the code base behind the paper's table; 0.1 in SSL4MIS.
        noise: standard deviation; 0.1 in all published code.
        ramp: of w. Linear in XNet, sigmoid in SSL4MIS.
        ema_step: what t counts. `epoch` is XNet's: the teacher is the student in the first epoch, a = 0.99 halfway.
        bn_stats: BatchNorm of the teacher: averaged, copied, or its `own` as in all published code. With averages, two
            equal networks differ already, and a large w drives them apart (docs/findings.md).

    Differs from published code:
        - The paper reports the teacher; here, as in SSL4MIS, the student is official.
        - SSL4MIS has no consistency in the first 1,000 steps, in this method alone; here it has the ramp only.
        - PyMIC discards the average (its teacher decays to zero), USB compares a view with itself: not repeated.
    """

    display = "Mean Teacher"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.2, 25), "decay": Choice(0.9, 0.97, 0.99, 0.997), "noise": Log(0.02, 0.5)}

    def __init__(
        self, task: Task, *, decay: Share = 0.99, weight: NonNegative = 5.0, noise: NonNegative = 0.1,
        ramp: Ramp = "linear", ema_step: EmaStep = "iteration", bn_stats: BNStats = "own",
    ) -> None:
        super().__init__()
        self.task, self.net = task, task.network()
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
