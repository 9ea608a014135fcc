"""FreeMatch."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.losses import IGNORE, cross_entropy
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task
from benchmark.ranges import Choice, Log, NonNegative, Share


def balanced(prob: Tensor, frequency: Tensor) -> Tensor:
    """prob / frequency [C], scaled to sum to 1; 0 for classes without frequency."""
    ratio = torch.where(frequency > 0, prob / frequency.clamp(min=1e-6), 0)
    return ratio / ratio.sum().clamp(min=1e-6)


class FreeMatch(Method):
    """FreeMatch (Wang et al. 2023, ICLR): FixMatch whose threshold follows the confidence, class by class.

    In its paper a sample is an image; here, as in FixMatch's segmentation form, a pixel.

    Loss:
        L = L_sup + weight ramp [sum_i m_i CE(f(strong)_i, y_i) / N + fairness sum_c a_c log b_c]
        y = argmax q, m = [max q >= T_y], q = softmax f(weak), no gradient; T_c = T P_c / max P
        T, P, h: averages with `momentum` of mean max q, of mean q, and of the shares of y; 1 / C at the start
        a = P / h, b = (mean p) / (shares of argmax p), over the pixels with m = 1 of p = softmax f(strong); both scaled
            to sum to 1

    Args:
        weight: of both unsupervised terms. 1 in the paper.
        fairness: of the second of them. 0.01 is the default of the authors' code, for classification; its
            configurations set 0.001.
        momentum: of the averages. 0.999 in the paper, over a million steps; 0.99 is ours, for some hundred steps.
        ramp: of the weight. None in the paper.

    Differs from published code:
        - The strong view is CutMixed as well, and labels go with it, as in UniMatch's FixMatch.
        - A class that no confident pixel of the strong view is predicted as has no part in the fairness; there it
          adds a constant.
        - It evaluates a moving average of the weights (0.999); here, as in UniMatch's FixMatch, the network itself.
        - Its options use_quantile and clip_thresh, off by default, are not offered.
    """

    display = "FreeMatch"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "strong")}
    threshold: Tensor
    prob: Tensor
    frequency: Tensor
    tuning = {"weight": Log(0.2, 5), "fairness": Log(0.001, 0.1), "momentum": Choice(0.9, 0.99, 0.999)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, fairness: NonNegative = 0.01, momentum: Share = 0.99,
        ramp: Ramp = "constant",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.fairness, self.momentum, self.ramp = task, weight, fairness, momentum, ramp
        self.net = task.network()
        self.register_buffer("threshold", torch.tensor(1 / task.classes))
        for name in ("prob", "frequency"):
            self.register_buffer(name, torch.full((task.classes,), 1 / task.classes))

    @torch.no_grad()
    def labels(self, image: Tensor) -> Tensor:
        """Pseudo-labels, 255 below their class's threshold; the averages follow."""
        prob = self.net(image).to(self.prob.dtype).softmax(1)
        confidence, label = prob.max(1)
        share = torch.stack([(label == kind).to(prob.dtype).mean() for kind in range(prob.shape[1])])
        for average, new in (
            (self.threshold, confidence.mean()), (self.prob, prob.mean((0, 2, 3))), (self.frequency, share),
        ):
            average.lerp_(new, 1 - self.momentum)
        thresholds = self.threshold * self.prob / self.prob.max()
        return torch.where(confidence >= thresholds[label], label, IGNORE)

    def unfairness(self, logits: Tensor, sure: Tensor) -> Tensor:
        """sum_c a_c log b_c of the pixels [B, H, W] that are `sure`."""
        prob, label = logits.to(self.prob.dtype).softmax(1), logits.argmax(1)
        pixels = sure.sum().clamp(min=1)
        mean = (prob * sure.unsqueeze(1)).sum((0, 2, 3)) / pixels
        share = torch.stack([(sure & (label == kind)).sum() / pixels for kind in range(prob.shape[1])])
        ratio = balanced(mean, share.to(mean.dtype))
        terms = balanced(self.prob, self.frequency) * ratio.clamp(min=1e-6).log()
        return torch.where(ratio > 0, terms, 0).sum()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        label = unlabelled.cutmix("strong", self.labels(unlabelled.weak))
        self.log("confident", (label != IGNORE).float().mean())
        self.log("threshold", self.threshold)
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        pred = self.net(unlabelled.strong)
        weight = self.weight * clock.ramp(self.ramp)
        yield {
            "strong": weight * cross_entropy(pred, label, over="all"),
            "fairness": weight * self.fairness * self.unfairness(pred, label != IGNORE),
        }

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
