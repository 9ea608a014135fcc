"""Interpolation consistency training."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Choice, Log, NonNegative, Range, Share
from methods._boxes import beta_shares


def blend(values: Tensor, share: Tensor) -> Tensor:
    """share of each entry of [B, ...] and 1 - share of the next one of the batch; `share` [B, 1, 1, 1]."""
    return share * values + (1 - share) * values.roll(-1, 0)


class ICT(Method):
    """ICT (Verma et al. 2019, IJCAI): between two images, predict between the teacher's predictions of the two.

    Loss:
        L = L_sup + weight ramp mean (softmax f(l x_i + (1 - l) x_j) - [l softmax f'(x_i) + (1 - l) softmax f'(x_j)])^2
        l ~ Beta(alpha, alpha) for every image; j: the next image of the batch; no gradient through the teacher f', a
            moving average as in Mean Teacher. With a batch of one image it is a Mean Teacher without noise.

    Args:
        weight: of the consistency. SSL4MIS's 0.1 beside (CE + Dice) / 2 is 0.2 beside CE + Dice; there the mean is over
            four classes.
        alpha: of the Beta distribution; small: mostly one image. 0.2 in SSL4MIS, 0.1 to 1 in the paper.
        decay: of the teacher. 0.99 in SSL4MIS, 0.999 in the paper.
        ramp: of the weight. Sigmoid in SSL4MIS and the paper.
        bn_stats: BatchNorm of the teacher: averaged, copied, or its `own` as in all published code.

    Differs from published code:
        - The paper's code has one l a batch; SSL4MIS blends the first half of a batch with the second.
        - The paper's code also mixes labelled images, blends the teacher's logits instead of its probabilities, and
          ends its ramp after a quarter of the epochs. It reports the teacher; here, as in SSL4MIS, the student is
          official.
    """

    display = "ICT"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.04, 20), "alpha": Choice(0.1, 0.2, 0.5, 1.0), "decay": Choice(0.9, 0.99, 0.999)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.2, alpha: Annotated[float, Range("[0.05, inf)")] = 0.2,
        decay: Share = 0.99, ramp: Ramp = "sigmoid", bn_stats: BNStats = "own",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.alpha, self.decay, self.ramp = task, weight, alpha, decay, ramp
        self.net = task.network()
        self.teacher = Teacher(self.net, bn_stats)

    def shares(self, image: Tensor) -> Tensor:
        """l of every image: [B, 1, 1, 1]."""
        return beta_shares(image, self.alpha, self.alpha).view(-1, 1, 1, 1).to(image.dtype)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        image = unlabelled.weak
        share = self.shares(image)
        target_prob = blend(self.teacher(image).softmax(1), share)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        student_prob = self.net(blend(image, share)).softmax(1)
        yield {"consistency": self.weight * clock.ramp(self.ramp) * mse(student_prob, target_prob)}

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
