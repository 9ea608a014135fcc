"""Weak teacher-student: sparse annotation, completed image by image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import IGNORE, one_hot, pseudo_label, valid_mse
from benchmark.method import Batch, Clock, Logits, Method, Parts, Task, require, two_phases
from benchmark.ranges import Choice, Linear, Share, ShareBelow1

UNSEEN = 254  # a pixel outside of a batch's crop: its pseudo-mask stays as it is


def cosine(first: float, last: float, fraction: Tensor) -> Tensor:
    """From `first` to `last` along half a cosine."""
    return last + (first - last) * (1 + torch.cos(math.pi * fraction)) / 2


class WeakTeacherStudent(Method):
    """Weak teacher-student (Khan et al. 2026, arXiv 2603.08605): a teacher completes each image's sparse annotation.

    For `--labels sparse:SHARE`. Unlabelled images that are also labelled keep their annotation; labels.background says
    what is known outside glands. README, a third party's summary and released code differ; the defaults are the
    README's, but for those marked ours.

    Loss:
        warm-up: L = L_sup
        then: L = a L_sup + (1 - a) mean_valid sum_c (softmax f(x_u) - m)^2
        m: the image's pseudo-mask: the annotation; elsewhere the teacher's argmax if its confidence is at least
            `threshold`; elsewhere nothing, and the pixel is not valid
        a, threshold: from their first to their last value along a cosine; teacher: moving average, a copy at its start

    Args:
        warmup: share of training without a teacher. 0.2 to 0.25 in the README.
        decay: of the teacher. 0.999 in the README, from the teacher's first step; here the average warms up as it does
            anywhere, so that in a few hundred steps it is the mean of all weights since the teacher's start.
        decay_start: where `decay` rises from; none: it does not. 0.99 in the summary.
        threshold: at first. 0.95 in the README; 0.95 throughout in the authors' script.
        threshold_end: at last, above 1 / C, where every pixel passes. 0.25 in the README for four classes; 0.6 is ours.
        filter: whether there is a threshold at all; the summary's ablation without it.
        interval: age at which a pseudo-mask is made anew, as a share of the second phase's steps; it rises from 0 to
            this, as the summary says; 0.1 is ours. 0: at every step, as in README and code.
        fusion: whether the annotation is in the pseudo-mask; the summary's ablation without it. Off in the code.
        alpha: a at first. 0.9 in the README; 0.95 throughout in the authors' script.
        alpha_end: a at last. 0.01 in the README.
        target: `soft` is the teacher's probability of now in place of its argmax.
        consistency: `criterion` is the configured supervised loss on m, as in the summary; `mse` in the README.
        bn_stats: BatchNorm of the teacher: averaged (ours), copied, or its `own` in the code.

    Differs from published code:
        - It compares raw logits, or by KL, also leaves out annotated pixels where the teacher is unsure, and counts
          parts of its supervised loss twice.
        - Its class 0 holds background and glands that nobody annotated, with a weight of 0.1 in cross-entropy.
        - Its training has no fusion, and its threshold never moves, against its README.
    """

    of_images = ("annotation", "pseudo_mask", "made")
    display = "Weak teacher-student"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"threshold_end": Linear(0.55, 0.9), "alpha_end": Choice(0.01, 0.1, 0.5), "decay": Choice(0.99, 0.999)}
    annotation: Tensor
    pseudo_mask: Tensor
    made: Tensor

    def __init__(
        self, task: Task, *, warmup: ShareBelow1 = 0.2, decay: Share = 0.999, decay_start: Share | None = None,
        threshold: Share = 0.95, threshold_end: Share = 0.6, filter: bool = True, interval: Share = 0.1,
        fusion: bool = True, alpha: Share = 0.9, alpha_end: Share = 0.01, target: Literal["hard", "soft"] = "hard",
        consistency: Literal["mse", "criterion"] = "mse", bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        chance = f"method.threshold_end must be above 1 / C = {1 / task.classes:g}, where every pixel passes"
        require(not filter or threshold_end > 1 / task.classes, f"{chance}; method.filter=false means just that")
        require(threshold >= threshold_end, "method.threshold must not be below method.threshold_end")
        require(target == "hard" or consistency == "mse", "method.target=soft needs method.consistency=mse")
        self.task, self.filter, self.interval, self.fusion = task, filter, interval, fusion
        self.target, self.consistency = target, consistency
        self.thresholds, self.alphas = (threshold, threshold_end), (alpha, alpha_end)
        self.decays = decay if decay_start is None else decay_start, decay
        self.net = task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.phases = two_phases("warm-up", "refinement", warmup)
        self.phase = next(iter(self.phases))
        for name in ("annotation", "pseudo_mask"):
            mask = torch.full((task.images, task.size, task.size), IGNORE, dtype=torch.uint8)
            self.register_buffer(name, mask)
        self.register_buffer("made", torch.full((task.images,), -torch.inf))  # step at which a pseudo-mask was made

    @torch.no_grad()
    def begin_phase(self, name: str, images: Mapping[str, Iterable[Batch]]) -> None:
        if name == "refinement":
            self.teacher.net.load_state_dict(self.net.state_dict())
            for batch in images["labelled"]:
                self.annotation[batch.index] = batch.mask.to(torch.uint8)

    def refresh(self, batch: Batch, label: Tensor, clock: Clock) -> Tensor:
        """The pseudo-masks [B, S, S] of a batch, made anew from the teacher's `label` where they are too old."""
        phase, index = clock.in_phase, batch.index
        old, new = self.pseudo_mask[index], batch.restore(label.to(torch.uint8), UNSEEN)
        due = clock.step - self.made[index] >= self.interval * phase.fraction * phase.steps
        new = torch.where(due[:, None, None] & (new != UNSEEN), new, old)
        self.pseudo_mask[index] = new
        self.made[index] = torch.where(due, clock.step, self.made[index]).to(self.made.dtype)
        return batch.apply(new).long()

    def goal(self, pseudo_mask: Tensor, annotation: Tensor, teacher_prob: Tensor) -> Tensor:
        """m as probabilities [B, C, S, S], 255 where a pixel is not valid."""
        hot, valid = one_hot(pseudo_mask, self.task.classes)
        prob = hot.to(teacher_prob.dtype)
        if self.target == "soft":
            prob = torch.where((annotation == IGNORE).unsqueeze(1), teacher_prob, prob)
        return torch.where(valid, prob, IGNORE)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        supervised = self.task.criterion(self.net(labelled.weak), labelled.mask)
        if self.phase == "warm-up":
            yield {"supervised": supervised}
            return
        done = clock.in_phase.fraction
        alpha, threshold = cosine(*self.alphas, done), cosine(*self.thresholds, done)
        self.log("supervised", supervised)  # without its weight, which falls
        yield {"labelled": alpha * supervised}
        with torch.no_grad():
            logits = self.teacher(unlabelled.weak)
            label = self.refresh(unlabelled, pseudo_label(logits, threshold if self.filter else 0.0), clock)
            annotation = unlabelled.apply(self.annotation[unlabelled.index]).long()
            if not self.fusion:
                annotation = torch.full_like(annotation, IGNORE)
            label = torch.where(annotation != IGNORE, annotation, label)
        self.log("threshold", threshold if self.filter else torch.zeros_like(threshold))
        self.log("valid", (label != IGNORE).float().mean())
        pred = self.net(unlabelled.weak)
        if self.consistency == "criterion":
            loss = self.task.criterion(pred, label)
        else:
            loss = self.task.classes * valid_mse(pred.softmax(1), self.goal(label, annotation, logits.softmax(1)))
        yield {"consistency": (1 - alpha) * loss}

    def after_step(self, clock: Clock) -> None:
        phase = clock.in_phase
        self.teacher.ema_update(self.net, phase.ema(cosine(*self.decays, phase.fraction)))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
