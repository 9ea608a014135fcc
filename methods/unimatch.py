"""UniMatch."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.losses import IGNORE, cross_entropy, dice_loss, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task, require_between, require_share


class UniMatch(Method):
    """Yang et al. 2023 (CVPR): FixMatch with two strong views and a stream of dropped features.

    L = L_sup + weight (1/4 L_s1 + 1/4 L_s2 + 1/2 L_fp). Each L_ is the cross-entropy to y = argmax softmax f(weak),
    without gradient, where that probability reaches `threshold`, summed and divided by all pixels. s1 and s2 are strong
    views, each CutMixed by rectangles of its own, which bring y of the pasted image along. fp is the weak view decoded
    anew after Dropout2d on the encoder's features of every scale, as in the published medical U-Net (DeepLab: two of
    them). `unsupervised=dice` is that code's: soft Dice without the pixels that are not confident. The published sum is
    halved: a factor on the learning rate. Published natural-image code reads image and CutMix partner from one list in
    one order: the partner is the same image, augmented anew. Here it is another image of the batch.
    The weak view is encoded once, in training mode, and decoded twice: for y, without gradient, and dropped. Published
    code judges pasted images in evaluation mode and decodes whole and dropped features as one batch for BatchNorm.
    """

    display = "UniMatch"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong", "strong2")}

    def __init__(
        self, task: Task, *, weight: float = 1.0, threshold: float = 0.95, dropout: float = 0.5,
        unsupervised: Literal["ce", "dice"] = "ce", ramp: Ramp = "constant",
    ) -> None:
        super().__init__()
        require_between(0, 1, threshold=threshold)
        require_between(0, math.inf, weight=weight)
        require_share(dropout=dropout)
        self.task = task
        self.net = task.network()
        self.drops = nn.ModuleList(nn.Dropout2d(dropout) for _ in self.net.feature_widths)
        self.weight, self.threshold, self.unsupervised, self.ramp = weight, threshold, unsupervised, ramp

    def judged(self, logits: Tensor, label: Tensor) -> Tensor:
        """The unsupervised loss of one stream; label 255 counts for nothing."""
        return dice_loss(logits, label) if self.unsupervised == "dice" else cross_entropy(logits, label, over="all")

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        features = self.net.encode(unlabelled.weak)
        with torch.no_grad():
            label = pseudo_label(self.net.logits(features), self.threshold)
        self.log("confident", (label != IGNORE).float().mean())
        dropped = self.net.logits([drop(feature) for drop, feature in zip(self.drops, features, strict=True)])
        seen, first, second = (self.net(x) for x in (labelled.weak, unlabelled.strong, unlabelled.strong2))
        weight = self.weight * clock.ramp(self.ramp)
        return {
            "supervised": self.task.criterion(seen, labelled.mask),
            "strong": 0.25 * weight * self.judged(first, unlabelled.cutmix("strong", label)),
            "strong2": 0.25 * weight * self.judged(second, unlabelled.cutmix("strong2", label)),
            "features": 0.5 * weight * self.judged(dropped, label),
        }

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
