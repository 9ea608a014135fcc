"""ST++."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from benchmark.ema import Teacher
from benchmark.losses import IGNORE, one_hot, pseudo_label
from benchmark.method import Batch, Clock, Logits, Method, Parts, Phase, Task
from benchmark.ranges import Linear, Log, NonNegative, Share, ShareAbove0
from methods._boxes import random_boxes


def mean_iou(first: Tensor, second: Tensor, classes: int) -> Tensor:
    """IoU of two label maps [B, H, W], mean over the classes that either has: [B]."""
    one, other = one_hot(first, classes)[0], one_hot(second, classes)[0]
    both, either = (one & other).sum((2, 3)), (one | other).sum((2, 3))
    return (both / either.clamp(min=1)).sum(1) / (either > 0).sum(1)


class STPlusPlus(Method):
    """ST++ (Yang et al. 2022, CVPR): self-training anew from labels, first with the more reliable half of images.

    Three stages of equal length, the second and the third with a fresh network, optimiser and schedule.

    Loss:
        first: L = L_sup of labelled images
        second: L = L_sup + weight L_sup(f(strong), y), y = argmax of the first stage's network, of the `reliable` share
            of images; reliability: mean IoU of its predictions at a third and two thirds of the stage with its last
        third: the same with all images; those without a label get it from the second stage's network
        strong: other colours and blur, and with probability `cutout` a box of 0.02 to 0.4 of the area without label

    Args:
        weight: of pseudo-labelled images. 1 in the paper.
        reliable: share of the second stage's images. 0.5 in the paper; with 1 the third stage repeats
            the second: plain self-training, made twice.
        cutout: probability of the box. 0.5 in the authors' code.

    Differs from published code:
        - It starts each stage from the weights that were best on the test images; here from the last.
        - Every stage has the whole budget there; here a third, so that all methods train equally long.
        - It trains on one set of both kinds, the labelled images repeated; here each step has as many of both.
          Images that are not selected still pass through the network, BatchNorm included; they have no part in
          cross-entropy, and a Dice loss of 0, so that Dice weighs half in the second stage.
        - It labels by the mean over five scales and mirrored images; here by the image alone.
        - It rounds the half down; here to the nearest.
        - Its box has sides of 0.3 to 3.3 to one and random values; here it is a square of the mean colour.
    """

    display = "ST++"
    views = {"labelled": ("weak",), "unlabelled": ("weak", "photometric")}
    phases = {
        "labels": Phase(0.0), "labels, second third": Phase(1 / 9), "labels, last third": Phase(2 / 9),
        "reliable": Phase(1 / 3, fresh_optimiser=True, fresh_schedule=True),
        "all": Phase(2 / 3, fresh_optimiser=True, fresh_schedule=True),
    }
    phase = "labels"
    of_images = ("pseudo_mask",)
    pseudo_mask: Tensor
    tuning = {"weight": Log(0.2, 5), "reliable": Linear(0.25, 1)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, reliable: ShareAbove0 = 0.5, cutout: Share = 0.5
    ) -> None:
        super().__init__()
        self.task, self.weight, self.reliable, self.cutout = task, weight, reliable, cutout
        self.net = task.network()
        self.early, self.middle = Teacher(self.net), Teacher(self.net)
        mask = torch.full((task.images, task.size, task.size), IGNORE, dtype=torch.uint8)
        self.register_buffer("pseudo_mask", mask)

    @torch.no_grad()
    def begin_phase(self, name: str, images: Mapping[str, Iterable[Batch]]) -> None:
        if name == "labels, second third":
            self.early.net.load_state_dict(self.net.state_dict())
        elif name == "labels, last third":
            self.middle.net.load_state_dict(self.net.state_dict())
        elif name != "labels":
            self.label(images["unlabelled"], self.reliable if name == "reliable" else None)
            self.net.load_state_dict(self.task.network().state_dict())

    def label(self, batches: Iterable[Batch], share: float | None) -> None:
        """Label the images that have no label; with a `share` only the most reliable ones."""
        self.net.eval()
        rows, scores = [], []
        for batch in batches:
            label, old = pseudo_label(self.net(batch.weak)), self.pseudo_mask[batch.index]
            new = (old == IGNORE).flatten(1).all(1).view(-1, 1, 1)
            self.pseudo_mask[batch.index] = torch.where(new, label.to(torch.uint8), old)
            if share is None:
                continue
            earlier = (pseudo_label(network(batch.weak)) for network in (self.early, self.middle))
            scores.append(torch.stack([mean_iou(other, label, self.task.classes) for other in earlier]).mean(0))
            rows.append(batch.index)
        self.net.train()
        if share is not None:
            order = torch.cat(rows)[torch.cat(scores).argsort(descending=True, stable=True)]
            self.pseudo_mask[order[max(1, round(share * len(order))) :]] = IGNORE

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        yield {"supervised": self.task.criterion(self.net(labelled.weak), labelled.mask)}
        if self.phase in ("reliable", "all"):
            image, count = unlabelled.photometric, len(unlabelled.index)
            label = unlabelled.apply(self.pseudo_mask[unlabelled.index]).long()
            area, chosen = 0.02 + 0.38 * torch.rand(count, device=image.device), torch.rand(count, device=image.device)
            box = random_boxes(image, area) & (chosen < self.cutout).view(-1, 1, 1, 1)
            logits = self.net(torch.where(box, 0, image))
            yield {"pseudo": self.weight * self.task.criterion(logits, torch.where(box.squeeze(1), IGNORE, label))}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
