"""AugSeg."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import IGNORE, cross_entropy, entropy, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Task, require
from benchmark.ranges import Choice, Count, Linear, Log, NonNegative, Share
from methods._boxes import beta_shares, next_image, random_boxes
from methods._intensity import OPERATIONS, change


def sureness(logits: Tensor) -> Tensor:
    """rho of every image: the mean over pixels of (1 - H / log C) max p, between 0 and 1: [B]."""
    normalised = entropy(logits) / math.log(logits.shape[1])
    return ((1 - normalised) * logits.to(normalised.dtype).softmax(1).amax(1)).mean((1, 2))


class AugSeg(Method):
    """AugSeg (Zhao et al. 2023, CVPR): FixMatch with a teacher, random changes of intensity, and help from labels.

    Loss:
        L = L_sup + weight sum_i m_i CE(f(strong)_i, y_i) / N, over all N pixels
        y = argmax q, m = [max q >= threshold], q = softmax f'(weak); f' a moving average as in Mean Teacher
        strong: 1 to `most` random operations of random strength; then every image gets a box (area 1 - Beta(4, 4)) of
            the next one, which has, with probability 1 - rho, a box (area 1 - Beta(8, 2)) of a labelled image in it;
            labels go with their pixels, true ones with m = 1; rho: mean over pixels of (1 - H(q) / log C) max q

    Args:
        weight: of the unsupervised term. 1 in the paper.
        threshold: on max q. 0.95 in the paper.
        operations: what may happen. The paper also has equalize, posterize, solarize and hue; they are left out
            because they change what a stain's colour means: hue makes pink green.
        most: how many at most. 3 in the paper.
        decay: of the teacher. 0.999 in the paper: 2 % of the authors' 52,000 steps. In 400 steps it is the mean of all
            weights since the start.
        bn_stats: BatchNorm of the teacher: averaged as in the authors' code, copied, or its own.

    Differs from published code:
        - It draws operations with replacement and in any order; here each at most once, in the order of the list.
        - Its boxes may reach over the image's edge, and have one area a batch.
        - Its hue is Pillow's, in HSV, here a rotation about the grey axis; it posterizes to 4 to 7 bits, here 4 to 8.
        - Its teacher equals the student throughout the first epoch, and is the network that it selects, saves and
          reports; here the student is official.
    """

    display = "AugSeg"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.7, 0.98), "decay": Choice(0.9, 0.99, 0.999)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, threshold: Share = 0.95,
        operations: tuple[str, ...] = (
            "identity", "autocontrast", "blur", "contrast", "brightness", "colour", "sharpness"),
        most: Count = 3, decay: Share = 0.999, bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        unknown = [name for name in operations if name not in OPERATIONS]
        require(not unknown, f"method.operations: unknown {', '.join(unknown)}; known: {', '.join(OPERATIONS)}")
        require(bool(operations), "method.operations must name one at least")
        self.task, self.weight, self.threshold, self.decay = task, weight, threshold, decay
        self.operations, self.most = operations, most
        self.net = task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(task.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(task.std).view(1, -1, 1, 1), persistent=False)

    def strong(self, image: Tensor) -> Tensor:
        """Normalised images with other intensities."""
        with torch.autocast(image.device.type, enabled=False):
            pixels = change((image * self.std + self.mean).clamp(0, 1), self.operations, self.most)
        return (pixels - self.mean) / self.std

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        logits = self.teacher(unlabelled.weak)
        label, rho = pseudo_label(logits, self.threshold), sureness(logits)
        self.log("confident", (label != IGNORE).float().mean())
        self.log("rho", rho.mean())
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        image = self.strong(unlabelled.weak)
        helped = (torch.rand(len(image), device=image.device) >= rho).view(-1, 1, 1, 1)
        true_box = helped & random_boxes(image, 1 - beta_shares(image, 8, 2))
        box, row = random_boxes(image, 1 - beta_shares(image, 4, 4)), torch.arange(len(image), device=image.device)

        def paste(values: Tensor, truth: Tensor) -> Tensor:
            """`values` [B, K, S, S] with boxes of the next image's, which have boxes of the `truth` in them."""
            with_truth = torch.where(true_box, truth[row % len(truth)], values)
            return torch.where(box, next_image(with_truth), values)

        target = paste(label.unsqueeze(1), labelled.mask.unsqueeze(1)).squeeze(1)
        unsup_loss = cross_entropy(self.net(paste(image, labelled.weak)), target, over="all")
        yield {"strong": self.weight * unsup_loss}

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.ema(self.decay))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
