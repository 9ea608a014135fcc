"""UniMatch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.losses import IGNORE, cross_entropy, dice_loss, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task
from benchmark.ranges import Linear, Log, NonNegative, Share, ShareBelow1


class UniMatch(Method):
    """UniMatch (Yang et al. 2023, CVPR): FixMatch with two strong views and a stream of dropped features.

    Loss:
        L = L_sup + weight ramp (1/4 L_s1 + 1/4 L_s2 + 1/2 L_fp), each L_ = sum_i m_i CE(p_i, y_i) / N over all N pixels
        y = argmax q, m = [max q >= threshold], q = softmax f(weak), no gradient
        s1, s2: strong views, each CutMixed by rectangles of its own, which bring the y of their image along
        fp: the weak view, decoded anew after Dropout2d on the encoder's features of every scale

    Args:
        weight: of all unsupervised terms. 1 in the paper.
        threshold: on max q. 0.95 in the paper and its code.
        dropout: of the features. 0.5 in the paper.
        unsupervised: `dice` is the authors' medical code's: soft Dice without the pixels that are not confident. They
            have it beside half of CE + Dice, so that its weight here is 2.
        ramp: of the weight. None in the paper.

    Differs from published code:
        - The code halves the sum, a factor on the learning rate; with DeepLab it drops features of two scales.
        - Its natural-image version pastes the same image, augmented anew; here it is another one of the batch.
        - Its boxes are taller than wide in 73 % of the cases; here both are equally frequent.
        - It labels pasted images in evaluation mode, and decodes whole and dropped features as one batch for BatchNorm.
        - With `dice` it sums over the batch, with smooth 1e-5; here over every image, with smooth 1.
    """

    display = "UniMatch"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong", "strong2")}
    tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.7, 0.98), "dropout": Linear(0.1, 0.7)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, threshold: Share = 0.95, dropout: ShareBelow1 = 0.5,
        unsupervised: Literal["ce", "dice"] = "ce", ramp: Ramp = "constant",
    ) -> None:
        super().__init__()
        self.task, self.net = task, task.network()
        self.drops = nn.ModuleList(nn.Dropout2d(dropout) for _ in self.net.feature_widths)
        self.weight, self.threshold, self.unsupervised, self.ramp = weight, threshold, unsupervised, ramp

    def labels(self, features: Sequence[Tensor], labelled: Batch, unlabelled: Batch) -> dict[str, Tensor]:
        """What teaches each stream: the mask, or the weak view's pseudo-labels, CutMixed as the stream is."""
        with torch.no_grad():
            label = pseudo_label(self.net.logits(features), self.threshold)
        self.log("confident", (label != IGNORE).float().mean())
        mixed = {view: unlabelled.cutmix(view, label) for view in ("strong", "strong2")}
        return {"supervised": labelled.mask, "features": label, **mixed}

    def dropped(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features without some of their channels."""
        return [drop(feature) for drop, feature in zip(self.drops, features, strict=True)]

    def terms(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], clock: Clock) -> dict[str, Tensor]:
        """The loss of every stream."""
        unsup_loss = dice_loss if self.unsupervised == "dice" else partial(cross_entropy, over="all")
        weight = self.weight * clock.ramp(self.ramp)
        return {
            "supervised": self.task.criterion(logits["supervised"], labels["supervised"]),
            "strong": 0.25 * weight * unsup_loss(logits["strong"], labels["strong"]),
            "strong2": 0.25 * weight * unsup_loss(logits["strong2"], labels["strong2"]),
            "features": 0.5 * weight * unsup_loss(logits["features"], labels["features"]),
        }

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        features = self.net.encode(unlabelled.weak)
        labels = self.labels(features, labelled, unlabelled)
        logits = {"features": self.net.logits(self.dropped(features))}
        views = {"supervised": labelled.weak, "strong": unlabelled.strong, "strong2": unlabelled.strong2}
        logits |= {stream: self.net(view) for stream, view in views.items()}
        return self.terms(logits, labels, clock)

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
