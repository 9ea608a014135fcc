"""CorrMatch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.losses import IGNORE, cross_entropy, kl_divergence, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Choice, Linear, Log, NonNegative, Share, ShareBelow1
from methods._correlation import Correlation, correlated, propagate, regions


def mean_of_class_maxima(logits: Tensor) -> Tensor:
    """The largest confidence among the pixels of each predicted class, mean over the classes that are predicted."""
    confidence, label = logits.softmax(1).max(1)
    kinds = torch.arange(logits.shape[1], device=label.device)
    largest = torch.where(label.unsqueeze(-1) == kinds, confidence.unsqueeze(-1), 0).flatten(0, -2).amax(0)
    return largest.sum() / (largest > 0).sum()


class CorrMatch(Method):
    """CorrMatch (Sun et al. 2024, CVPR): pseudo-labels spread to the positions whose features are like theirs.

    Loss:
        L = L_sup(p) + L_sup(p A) + weight ramp 1/2 (L_s + L_kl + L_fp + 1/2 L_s,A + 1/2 L_w,A), CE over all N pixels
        A = softmax(a^T b / sqrt C) over positions, a and b heads of the encoder's feature of stride 16; p A: logits
            without gradient times A; y = argmax q, m = [max q >= T], q = softmax f(weak)
        L_s, L_s,A: the strong view and its p A learn y after spreading; L_w,A and L_fp: the weak view's p A, and its
            decoding after Dropout2d, learn y before it; L_kl = m KL(q || softmax f(strong)), q mixed as the view is
        spreading: of 128 rows of A the positions above half of its range take a class where the share of m there is
            at least T and that class has more than T of it
        T: average, with `momentum`, of the mean over predicted classes of the largest confidence

    Args:
        weight: of the unsupervised terms. 1 in the paper.
        threshold: T at the start. 0.85 in the authors' code for VOC; it creeps up, and late few pixels pass.
        momentum: of T. 0.999 in the authors' code: 1,000 of some 50,000 steps, so that T is near 1 for most of their
            training. In 400 steps T goes a third of its way, which lets more pixels pass.
        dropout: of the features for L_fp. 0.5 in the paper.
        ramp: of the weight. None in the paper.

    Differs from published code:
        - Its Dropout2d drops the first and the last scale of features; here all.
        - It halves the sum and the supervised terms, a factor on the learning rate.
        - Its CutMix pastes the same image, augmented anew, and L_kl compares the pasted view with the plain weak one.
        - It spreads in the mixed image outside the pasted box, region after region; here before mixing, at once.
        - Its regions are cut from rows enlarged to the image, and it never samples the last row. It resizes with
          aligned corners.
    """

    display = "CorrMatch"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong")}
    tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.6, 0.95), "momentum": Choice(0.9, 0.99, 0.999)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, threshold: Share = 0.85, momentum: Share = 0.999,
        dropout: ShareBelow1 = 0.5, ramp: Ramp = "constant",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.momentum, self.ramp = task, weight, momentum, ramp
        self.net = task.network()
        self.level, _ = self.net.level(16, torch.zeros(1, task.channels, task.size, task.size))
        self.drop = nn.Dropout2d(dropout)
        with task.init_seed():
            self.correlation = Correlation(self.net.feature_widths[self.level], task.classes)
        self.threshold: Tensor
        self.register_buffer("threshold", torch.tensor(threshold))

    def both(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the decoder, and as A carries them."""
        features = self.net.encode(image)
        logits = self.net.logits(features)
        return logits, correlated(logits, self.correlation(features[self.level]))

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        pred_x, carried_x = self.both(labelled.weak)
        yield {
            "supervised": self.task.criterion(pred_x, labelled.mask),
            "supervised/correlated": self.task.criterion(carried_x, labelled.mask),
        }
        features = self.net.encode(unlabelled.weak)
        affinity = self.correlation(features[self.level])
        with torch.no_grad():
            logits = self.net.logits(features).to(self.threshold.dtype)
            self.threshold.lerp_(mean_of_class_maxima(logits), 1 - self.momentum)
            label, sure = pseudo_label(logits), logits.softmax(1).amax(1) >= self.threshold
            plain = torch.where(sure, label, IGNORE)
            label, spread = propagate(label, sure, regions(affinity), self.task.classes, self.threshold)
            label = unlabelled.cutmix("strong", torch.where(spread, label, IGNORE))
        for name, value in (("threshold", self.threshold), ("confident", sure), ("confident, spread", spread)):
            self.log(name, value.float().mean())
        pred_fp = self.net.logits([self.drop(z) for z in features])
        pred_s, carried_s = self.both(unlabelled.strong)
        apart = kl_divergence(unlabelled.cutmix("strong", logits), pred_s) * unlabelled.cutmix("strong", sure)
        weight = 0.5 * self.weight * clock.ramp(self.ramp)
        yield {
            "strong": weight * cross_entropy(pred_s, label, over="all"),
            "kl": weight * apart.mean(),
            "features": weight * cross_entropy(pred_fp, plain, over="all"),
            "strong/correlated": 0.5 * weight * cross_entropy(carried_s, label, over="all"),
            "weak/correlated": 0.5 * weight * cross_entropy(correlated(logits, affinity), plain, over="all"),
        }

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
