"""Bidirectional copy-paste."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from benchmark.ema import BNStats, Teacher
from benchmark.losses import IGNORE, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Task, two_phases
from benchmark.ranges import Choice, Linear, Log, NonNegative, Share, ShareAbove0


def largest_components(label: Tensor) -> Tensor:
    """Of every class but 0 the largest 8-connected component of each image, the rest 0: [B, H, W], on the host."""
    kept = np.zeros(label.shape, dtype=np.int64)
    for one, found in zip(kept, label.cpu().numpy(), strict=True):
        for kind in set(np.unique(found)) - {0}:
            numbers, _ = ndimage.label(found == kind, np.ones((3, 3)))
            one[numbers == 1 + np.bincount(numbers.flat)[1:].argmax()] = kind
    return torch.from_numpy(kept).to(label.device)


class BCP(Method):
    """BCP (Bai et al. 2023, CVPR): labelled and unlabelled images are pasted into each other, in both directions.

    Loss:
        first phase: L = L_sup over the box + L_sup over the rest, of a labelled image with another one in the box
        then: L = L_in + L_out, each L_sup over the labelled region + weight L_sup over the unlabelled one, by regions
        in = a labelled image with an unlabelled one in the box, out = the unlabelled one with the labelled one in it
        the unlabelled one's label is argmax f', f' a moving average as in Mean Teacher; every pixel teaches

    Args:
        weight: of unlabelled regions. 0.5 in the paper.
        pretrain: share of all steps in the first phase. A quarter (10,000 of 40,000) in the authors' code. 1: no
            unlabelled image is seen; with weight 0 they are still pasted.
        box: its side, of the image's. 2/3 in the paper; one box a step, at a random place.
        keep: of the pseudo-label's components. The authors keep the `largest` of each class: right for a heart; of
            glands it keeps a third of the pixels. `largest` runs on the host.
        decay: of the teacher. 0.99 in the paper.
        bn_stats: BatchNorm of the teacher: averaged (ours), copied, or its `own`. The authors average it, too, but
            label in training mode, by the batch's statistics; `own` gives their labels.

    Differs from published code:
        - It halves the batch: one half of the labelled images goes in, the other out. Here all go both ways, in pairs.
        - It starts the second phase from the first one's best weights on validation images; here from its last.
        - Its average has the full decay from the first step of the second phase; here it warms up as it does anywhere.
        - It halves CE + Dice, a factor on the learning rate; its Dice is of the whole batch, without a smoothing term.
        - It logs a consistency weight that no loss has.
    """

    display = "BCP"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    cuda_graph_reason = "components are found on the host"
    tuning = {"weight": Log(0.1, 2.5), "box": Linear(0.4, 0.8), "decay": Choice(0.9, 0.99, 0.999)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.5, pretrain: Share = 0.25, box: ShareAbove0 = 2 / 3,
        keep: Literal["all", "largest"] = "all", decay: Share = 0.99, bn_stats: BNStats = "ema",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.keep, self.decay = task, weight, keep, decay
        self.net = task.network()
        self.teacher = Teacher(self.net, bn_stats)
        self.side = max(1, round(box * task.size))
        self.phases = two_phases("labelled", "both", pretrain)
        self.phase = next(iter(self.phases))
        self.cuda_graph = keep == "all"

    def begin_phase(self, name: str, images: object) -> None:
        self.teacher.net.load_state_dict(self.net.state_dict())

    def random_box(self, image: Tensor) -> Tensor:
        """Where the box is: bool [S, S]."""
        size, place = image.shape[-1], torch.arange(image.shape[-1], device=image.device)
        y, x = torch.randint(0, size - self.side + 1, (2, 1), device=image.device)
        rows, columns = (place >= y) & (place < y + self.side), (place >= x) & (place < x + self.side)
        return rows[:, None] & columns

    def region_loss(self, logits: Tensor, label: Tensor, region: Tensor) -> Tensor:
        """The configured criterion over the pixels of `region` alone."""
        return self.task.criterion(logits, torch.where(region, label, IGNORE))

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        image, mask, box = labelled.weak, labelled.mask, self.random_box(labelled.weak)
        if self.phase == "labelled":
            logits, other = self.net(torch.where(box, image.roll(-1, 0), image)), mask.roll(-1, 0)
            yield {"supervised": self.region_loss(logits, mask, ~box) + self.region_loss(logits, other, box)}
            return
        pair = torch.arange(max(len(image), len(unlabelled.weak)), device=image.device)
        image_u = unlabelled.weak[pair % len(unlabelled.weak)]
        image, mask = image[pair % len(image)], mask[pair % len(mask)]
        label = pseudo_label(self.teacher(image_u))
        if self.keep == "largest":
            label = largest_components(label)
        for name, inside in (("in", box), ("out", ~box)):
            logits = self.net(torch.where(inside, image_u, image))
            yield {
                f"supervised/{name}": self.region_loss(logits, mask, ~inside),
                f"unlabelled/{name}": self.weight * self.region_loss(logits, label, inside),
            }

    def after_step(self, clock: Clock) -> None:
        self.teacher.ema_update(self.net, clock.in_phase.ema(self.decay))

    def predict(self, image: Tensor) -> Logits:
        return {"student": self.net(image), "teacher": self.teacher(image)}
