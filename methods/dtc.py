"""Dual-task consistency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.losses import mse, valid_mse
from benchmark.method import Batch, Clock, Logits, Losses, Method, NotApplicable, Ramp, Task
from benchmark.ranges import Choice, Log, NonNegative, Positive


def mask_of(distance: Tensor, slope: float) -> Tensor:
    """The smooth mask of a signed distance [B, 1, H, W] that is positive inside: near 1 inside, near 0 outside."""
    return torch.sigmoid(slope * distance)


class DTC(Method):
    """DTC (Luo et al. 2021, AAAI): two heads, a mask and a signed distance, must draw the same objects.

    Loss:
        L = L_sup + distance_weight mean (z - d)^2 + weight ramp mean (sigmoid(slope z) - p)^2
        p: foreground probability; z: tanh of the distance head; d: the true signed distance, positive inside,
            scaled to [-1, 1] image by image, unknown where ignored pixels (255) could change it
        the first two on labelled, the last on all images of the step, with gradient through both heads

    Args:
        weight: of the consistency. 1 in the paper, beside Dice alone.
        distance_weight: of the distance head's squared error. 0.3 in the paper.
        slope: steepness of the smooth mask. 1500 in the paper: it is flat above |z| = 0.005, so that elsewhere the mask
            head alone learns from the consistency.
        ramp: of the weight. Sigmoid in the authors' code.

    Differs from published code:
        - Its distance is negative inside, with slope -1500: the same mask. Of an image without an object it is 0
          everywhere, here -1.
        - It computes cross-entropy and does not use it; here the supervised loss is the configured one.
    """

    display = "DTC"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    targets = ("sdf",)
    tuning = {"weight": Log(0.2, 5), "distance_weight": Log(0.06, 1.5), "slope": Choice(50.0, 300.0, 1500.0)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 1.0, distance_weight: NonNegative = 0.3, slope: Positive = 1500.0,
        ramp: Ramp = "sigmoid",
    ) -> None:
        super().__init__()
        if task.classes != 2:
            raise NotApplicable("dtc's signed distance is defined for two classes")
        self.task, self.weight, self.distance_weight, self.slope, self.ramp = task, weight, distance_weight, slope, ramp
        self.net = task.network()
        with task.init_seed():
            self.distance_head = nn.Conv2d(self.net.width, 1, 1)

    def both(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, 2, H, W] and distances [B, 1, H, W] in (-1, 1)."""
        last = self.net.last_map(image)
        return self.net.head(last), self.distance_head(last).tanh()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        logits, distance = self.both(labelled.weak)
        logits_u, distance_u = self.both(unlabelled.weak)
        foreground = torch.cat([logits, logits_u]).softmax(1)[:, 1:]
        consistency = mse(mask_of(torch.cat([distance, distance_u]), self.slope), foreground)
        return {
            "supervised": self.task.criterion(logits, labelled.mask),
            "distance": self.distance_weight * valid_mse(distance, labelled.sdf),
            "consistency": self.weight * clock.ramp(self.ramp) * consistency,
        }

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
