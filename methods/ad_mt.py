"""Alternate diverse mean teachers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import IGNORE, dice_loss, entropy
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Choice, Count, Linear, Log, NonNegative, Share
from methods._boxes import beta_shares, next_image, random_boxes


def weighted_mean(first: Tensor, second: Tensor) -> Tensor:
    """(w1 p1 + w2 p2) / (w1 + w2) of two tensors of logits, w = exp(-H(p)) at every pixel: [B, C, H, W]."""
    weights = torch.stack([-entropy(first), -entropy(second)]).softmax(0).unsqueeze(2)
    return (weights * torch.stack([first, second]).to(weights.dtype).softmax(2)).sum(0)


class ADMT(Method):
    """AD-MT (Zhao et al. 2024, ECCV): two teachers follow one student in turns, each in turns of another view.

    Loss:
        L = L_sup + weight ramp Dice(f(view), y), without the pixels where max q < threshold
        q = (w1 p1 + w2 p2) / (w1 + w2), w = exp(-H(p)), p1 and p2 the teachers on the weak view; y = argmax q; where
            the student on the weak view has another class with more confidence, that class and confidence are taken
        a turn lasts 1 to `period` steps, drawn anew; in it one teacher follows by a moving average, the other stays
        view: in the first teacher's turns other colours and blur; in the second's the weak view, where
            every image gets a box (area 1 - Beta(4, 4)) of the next one, and its labels

    Args:
        weight: of the Dice term. The authors' 2 beside (CE + Dice) / 2 is 4 beside CE + Dice.
        threshold: on max q. 0.95 in the authors' code.
        decay: of the teachers; the average starts from a copy, each teacher's at its own first update. 0.99 in the
            authors' code, where both copy in the first 100 of 30,000 steps.
        period: the longest turn in steps. 50 in the authors' code, half an epoch of theirs, of 30,000 steps. In 400
            steps it is an eighth of training, in which the other teacher stands still.
        ramp: of the weight, complete at a quarter of the steps. Sigmoid in the authors' code.
        bn_stats: BatchNorm of the teachers: averaged as in the authors' code, copied, or its own. Theirs predicts in
            training mode in its turn, and in evaluation mode in the other's.
        student_wins: where the student may overrule: `everywhere`, or only in `conflicts` of the two teachers, as in
            the authors' code.

    Differs from published code:
        - Its entropies are in bits, a wider spread of weights; here in nats.
        - Its boxes may reach over the image's edge, and have one area a batch.
        - Its Dice is of the whole batch; here of every image, with 1 added to both sides.
        - In the second teacher's turns it compares mixed labels with the student's of the plain view; here labels are
          mixed last.
    """

    display = "AD-MT"
    later = {"student_wins": "everywhere"}
    views = {"labelled": ("weak",), "unlabelled": ("weak", "photometric")}
    turn: Tensor
    left: Tensor
    updates: Tensor
    tuning = {"weight": Log(0.8, 20), "threshold": Linear(0.7, 0.98), "decay": Choice(0.9, 0.99, 0.999)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 4.0, threshold: Share = 0.95, decay: Share = 0.99,
        period: Count = 50, ramp: Ramp = "sigmoid", bn_stats: BNStats = "ema",
        student_wins: Literal["everywhere", "conflicts"] = "everywhere",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.threshold, self.decay, self.period = task, weight, threshold, decay, period
        self.ramp, self.student_wins = ramp, student_wins
        self.net = task.network()
        self.first, self.second = Teacher(self.net, bn_stats), Teacher(self.net, bn_stats)
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("left", torch.zeros((), dtype=torch.int64))  # 0: the turn has no length yet
        self.register_buffer("updates", torch.zeros(2, dtype=torch.int64))

    @torch.no_grad()
    def labels(self, image: Tensor) -> Tensor:
        """Pseudo-labels of weak views: the teachers', or the student's where it is surer; 255 below the threshold."""
        first, second = self.first(image), self.second(image)
        confidence, label = weighted_mean(first, second).max(1)
        own_confidence, own_label = self.net(image).to(confidence.dtype).softmax(1).max(1)
        wins = (own_label != label) & (own_confidence > confidence)
        if self.student_wins == "conflicts":
            wins = wins & (first.argmax(1) != second.argmax(1))
        self.log("student wins", wins.float().mean())
        label = torch.where(wins, own_label, label)
        return torch.where(torch.maximum(confidence, own_confidence * wins) >= self.threshold, label, IGNORE)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        label = self.labels(unlabelled.weak)
        self.log("confident", (label != IGNORE).float().mean())
        first, weak = self.turn == 0, unlabelled.weak
        box = random_boxes(weak, 1 - beta_shares(weak, 4, 4))
        image = torch.where(first, unlabelled.photometric, torch.where(box, next_image(weak), weak))
        mixed_label = torch.where(box.squeeze(1), next_image(label), label)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        unsup_loss = dice_loss(self.net(image), torch.where(first, label, mixed_label))
        yield {"taught": self.weight * clock.ramp(self.ramp, until=0.25) * unsup_loss}

    def after_step(self, clock: Clock) -> None:
        alpha = clock.at(self.updates).ema(self.decay)
        for place, teacher in enumerate((self.first, self.second)):
            moves = (self.turn == place) & ~clock.stopped
            teacher.ema_update(self.net, torch.where(moves, alpha[place], 1.0))
            self.updates[place] += moves
        length = torch.randint(1, self.period + 1, (), device=alpha.device)
        self.left.copy_(torch.where(self.left == 0, length, self.left) - 1)
        self.turn.copy_(torch.where(self.left == 0, 1 - self.turn, self.turn))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "first": self.first(image), "second": self.second(image)}
