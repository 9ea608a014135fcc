"""Cross teaching between a CNN and a transformer."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from benchmark.losses import dice_loss, pseudo_label
from benchmark.method import Batch, Clock, Logits, Losses, Method, ParamGroup, Ramp, Task, require
from benchmark.ranges import Log, NonNegative, Positive


class CrossTeaching(Method):
    """Cross Teaching (Luo et al. 2022, MIDL): a CNN and a transformer teach each other by their pseudo-labels.

    Loss:
        L = L_sup(f1) + L_sup(f2) + w(t) [Dice(softmax f1(x_u), argmax f2(x_u)) + Dice(softmax f2(x_u), argmax f1(x_u))]
        no gradient through argmax; every pixel teaches, however unsure

    Args:
        weight: w at the end of the ramp. SSL4MIS's 0.1 beside (CE + Dice) / 2 is 0.2 beside CE + Dice. XNet: 1.
        ramp: of w. Sigmoid in SSL4MIS, linear in XNet.
        transformer: f2, of another kind than f1 = `net.name`. Swin U-Net in all published code.
        transformer_optimiser: `configured` is the run's (published code: SGD); users found that it needs an Adam rule.
        transformer_lr: its learning rate with AdamW; ours.
        transformer_decay: its weight decay with AdamW; ours.

    Differs from published code:
        - The CNN is the official output, as in the paper; XNet reports the better of the two.
        - SSL4MIS starts the transformer from ImageNet weights and sums Dice over the batch. Here, as in XNet, it starts
          from random weights, whatever `net.weights` says of the CNN, and Dice is an image's.
    """

    display = "Cross Teaching"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.04, 1), "transformer_lr": Log(1.25e-4, 2e-3)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.2, ramp: Ramp = "sigmoid", transformer: str = "swin_unet",
        transformer_optimiser: Literal["adamw", "configured"] = "adamw", transformer_lr: Positive = 5e-4,
        transformer_decay: NonNegative = 0.01,
    ) -> None:
        super().__init__()
        alike = f"method.transformer must differ from net.name, both are {transformer}: two kinds of network teach here"
        require(transformer != task.net, alike)
        self.task, self.weight, self.ramp = task, weight, ramp
        self.cnn, self.transformer = task.network(), task.network(net=transformer)
        adamw: dict[str, Any] = {"optimiser": "adamw", "lr": transformer_lr, "weight_decay": transformer_decay}
        self.transformer_rule = adamw if transformer_optimiser == "adamw" else {}

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        cnn_l, cnn_u = self.cnn(labelled.weak), self.cnn(unlabelled.weak)
        transformer_l, transformer_u = self.transformer(labelled.weak), self.transformer(unlabelled.weak)
        cnn_label, transformer_label = pseudo_label(cnn_u), pseudo_label(transformer_u)
        self.log("agreement", (cnn_label == transformer_label).float().mean())
        weight = self.weight * clock.ramp(self.ramp)
        return {
            "supervised/cnn": self.task.criterion(cnn_l, labelled.mask),
            "supervised/transformer": self.task.criterion(transformer_l, labelled.mask),
            "taught/cnn": weight * dice_loss(cnn_u, transformer_label),
            "taught/transformer": weight * dice_loss(transformer_u, cnn_label),
        }

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup(self.cnn.parameters()), ParamGroup(self.transformer.parameters(), **self.transformer_rule)]

    def predict(self, image: Tensor) -> Logits:
        return {"cnn": self.cnn(image), "transformer": self.transformer(image)}
