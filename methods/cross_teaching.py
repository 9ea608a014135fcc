"""Cross teaching between a CNN and a transformer."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from benchmark.losses import dice_loss, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, ParamGroup, Ramp, Task, require, require_between


class CrossTeaching(Method):
    """Luo et al. 2022 (MIDL): a CNN and a transformer teach each other by their pseudo-labels.

    L = L_sup(f1) + L_sup(f2) + w(t) [Dice(softmax f1(x), argmax f2(x)) + Dice(softmax f2(x), argmax f1(x))], the
    arguments of argmax without gradient, x unlabelled; f1 is the configured network, f2 is `transformer`. Every pixel
    teaches, however unsure. The CNN is what the paper reports, so it is the official output. SSL4MIS has w = 0.1 with a
    sigmoid ramp over all of training, which is the default; XNet has w = 1 with a linear one. Both put Swin U-Net under
    the CNN's optimiser (SGD); users found that it needs an Adam-type rule, so the default gives it AdamW with its own
    rate, and `transformer_optimiser=configured` is theirs (`transformer_lr` and `transformer_decay` are then unused).
    SSL4MIS starts the transformer from ImageNet weights and takes the sums of Dice over the whole batch; here, as in
    XNet, the transformer starts from random weights, also where `net.weights` says others for the CNN, and Dice is an
    image's. U-Net and Swin U-Net are XNet's pair.
    """

    display = "Cross Teaching"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, weight: float = 0.1, ramp: Ramp = "sigmoid", transformer: str = "swin_unet",
        transformer_optimiser: Literal["adamw", "configured"] = "adamw", transformer_lr: float = 5e-4,
        transformer_decay: float = 0.01,
    ) -> None:
        super().__init__()
        require_between(0, math.inf, weight=weight, transformer_decay=transformer_decay)
        require(transformer_lr > 0, f"method.transformer_lr must be above 0, not {transformer_lr}")
        alike = f"method.transformer must differ from net.name, both are {transformer}: two kinds of network teach here"
        require(transformer != task.net, alike)
        self.task, self.weight, self.ramp = task, weight, ramp
        self.cnn = task.network()
        self.transformer = task.network(net=transformer)
        self.transformer_optimiser = transformer_optimiser
        self.transformer_lr, self.transformer_decay = transformer_lr, transformer_decay

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        seen_cnn, cnn = self.cnn(labelled.weak), self.cnn(unlabelled.weak)
        seen_transformer, transformer = self.transformer(labelled.weak), self.transformer(unlabelled.weak)
        weight, labels = self.weight * clock.ramp(self.ramp), (pseudo_label(cnn), pseudo_label(transformer))
        self.log("agreement", (labels[0] == labels[1]).float().mean())
        return {
            "supervised/cnn": self.task.criterion(seen_cnn, labelled.mask),
            "supervised/transformer": self.task.criterion(seen_transformer, labelled.mask),
            "taught/cnn": weight * dice_loss(cnn, labels[1]),
            "taught/transformer": weight * dice_loss(transformer, labels[0]),
        }

    def param_groups(self) -> list[ParamGroup]:
        """A group for each network."""
        second = ParamGroup(self.transformer.parameters())
        if self.transformer_optimiser == "adamw":
            second.optimiser, second.lr, second.weight_decay = "adamw", self.transformer_lr, self.transformer_decay
        return [ParamGroup(self.cnn.parameters()), second]

    def predict(self, image: Tensor) -> Logits:
        return {"cnn": self.cnn(image), "transformer": self.transformer(image)}
