"""UniMatch V2."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import IGNORE, cross_entropy, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Choice, Linear, Log, NonNegative, Share


def complementary_dropout(feature: Tensor, whole: Tensor) -> Tensor:
    """Features [2 B, C, h, w] of B images in two views: of every channel one view sees the double, the other nothing.

    Images that are `whole` (bool [B, 1]) keep all channels in both views.
    """
    mask = 2.0 * (torch.rand(len(whole), feature.shape[1], device=feature.device) < 0.5)
    mask = torch.where(whole, 1.0, mask)
    return feature * torch.cat([mask, 2 - mask])[:, :, None, None].to(feature.dtype)


class UniMatchV2(Method):
    """UniMatch V2 (Yang et al. 2025, TPAMI): a teacher labels, and two strong views share out their channels.

    Its authors change the encoder as well (DINOv2, 518 px); this is their scheme, on any encoder. They find FixMatch as
    good with the same encoder: compare the two rows.

    Loss:
        L = L_sup + weight ramp (1/2 L_s1 + 1/2 L_s2), each L_ = sum_i m_i CE(p_i, y_i) / N over all N pixels
        y = argmax q, m = [max q >= threshold], q = softmax f'(weak); f' a moving average as in Mean Teacher
        s1, s2: strong views, CutMixed by rectangles of their own; of every channel of the encoder's features one view
            has the double, the other nothing (complementary dropout); half of the images, drawn for every step, keep
            all channels of all features

    Args:
        weight: of the unsupervised terms. 1 in the paper.
        threshold: on max q. 0.95 in the paper.
        decay: of the teacher. 0.996 in the paper: 250 of the authors' 39,000 steps. In 400 steps the teacher is for
            250 the mean of all weights since the start.
        drop: complementary dropout; the paper's ablation without it.
        ramp: of the weight. None in the paper.
        bn_stats: BatchNorm of the teacher: averaged as in the authors' code, copied, or its own.

    Differs from published code:
        - It halves the sum of all terms, a factor on the learning rate. It evaluates both and saves by the student's
          score; here the student is official.
        - Its CutMix partner is the image at the other end of the batch; here it is the next one.
        - Its features are of one width and share one mask; here every scale has its own.
    """

    display = "UniMatch V2"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong", "strong2")}
    tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.7, 0.98), "decay": Choice(0.9, 0.99, 0.996)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, threshold: Share = 0.95, decay: Share = 0.996,
        drop: bool = True, ramp: Ramp = "constant", bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.threshold, self.decay = task, weight, threshold, decay
        self.drop, self.ramp = drop, ramp
        self.net = task.network()
        self.teacher = Teacher(self.net, bn_stats)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        label = pseudo_label(self.teacher(unlabelled.weak), self.threshold)
        self.log("confident", (label != IGNORE).float().mean())
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        features = self.net.encode(torch.cat([unlabelled.strong, unlabelled.strong2]))
        if self.drop:
            count = len(unlabelled.strong)
            whole = torch.rand(count, 1, device=unlabelled.strong.device).argsort(0) < count // 2
            features = [complementary_dropout(feature, whole) for feature in features]
        pred_s1, pred_s2 = self.net.logits(features).chunk(2)
        weight = 0.5 * self.weight * clock.ramp(self.ramp)
        yield {
            "strong": weight * cross_entropy(pred_s1, unlabelled.cutmix("strong", label), over="all"),
            "strong2": weight * cross_entropy(pred_s2, unlabelled.cutmix("strong2", label), over="all"),
        }

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
