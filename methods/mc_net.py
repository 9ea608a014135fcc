"""Mutual consistency."""

from __future__ import annotations

from itertools import permutations
from typing import Annotated

import torch
from torch import Tensor, nn

from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Losses, Method, NotApplicable, Ramp, Task
from benchmark.nets.network import Network
from benchmark.ranges import Choice, Log, NonNegative, Positive, Range


def sharpen(logits: Tensor, temperature: float) -> Tensor:
    """p^(1/T) / sum_c p^(1/T) of every pixel, as probabilities."""
    return (logits / temperature).softmax(1)


def interpolations(net: Network) -> list[tuple[nn.Module, str]]:
    """The modules of a decoder that enlarge by interpolation, and the attribute that names how."""
    parts = list(net.decoder.modules())
    found: list[tuple[nn.Module, str]] = [(part, "mode") for part in parts if isinstance(part, nn.Upsample)]
    return found or [(part, "interpolation_mode") for part in parts if hasattr(part, "interpolation_mode")]


class MCNet(Method):
    """MC-Net (Wu et al. 2021, MICCAI; MC-Net+ 2022, MedIA): decoders that enlarge in different ways should agree.

    One encoder; the first decoder is the network's own, the others are of its kind but for how they interpolate.

    Loss:
        L = sum_d L_sup(p_d) + weight ramp sum_{i != j} mean (p_i - sharp(p_j))^2, sharp(p) = p^(1/T) / sum_c p^(1/T)
        the second sum on all images of the step, labelled ones, too

    Args:
        weight: of the consistency. 0.1 in the authors' code, beside Dice alone; there the mean is over four classes.
        decoders: 2 in MC-Net, 3 in MC-Net+. The third may enlarge bicubically, for which CUDA has no deterministic
            gradient.
        temperature: T. 0.1 in the authors' code.
        detach: no gradient through the sharpened target, as for any pseudo-label. False in the authors' code: each
            side also moves its target.
        ramp: of the weight. Sigmoid in the authors' code.

    Differs from published code:
        - Its first decoder enlarges bilinearly, the next by transposed convolutions and to the nearest; here the
          configured decoder's own way comes first, then others of bilinear, nearest and bicubic, for any decoder that
          interpolates.
        - For more than two classes its sharpened probabilities do not sum to 1.
        - In two dimensions its Dice lacks the factor 2 above: at best 0.5, with half of the gradient.
        - It computes cross-entropy and does not use it; here the supervised loss is the configured one.
    """

    display = "MC-Net"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.02, 2), "temperature": Choice(0.1, 0.3, 0.5)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 0.1, decoders: Annotated[int, Range("[2, 3]")] = 2,
        temperature: Positive = 0.1, detach: bool = True, ramp: Ramp = "sigmoid",
    ) -> None:
        super().__init__()
        self.task, self.weight, self.temperature, self.detach, self.ramp = task, weight, temperature, detach, ramp
        first, *others = nets = [task.network() for _ in range(decoders)]
        own = {getattr(part, name) for part, name in interpolations(first)}
        if not own:
            raise NotApplicable(f"mc_net's decoders differ in how they interpolate, and '{task.net}' does not")
        ways = [way for way in ("bilinear", "nearest", "bicubic") if way not in own]
        for net, way in zip(others, ways, strict=False):
            del net.encoder
            for part, name in interpolations(net):
                setattr(part, name, way)
                if isinstance(part, nn.Upsample):
                    part.align_corners = None if way == "nearest" else False
        self.nets = nn.ModuleList(nets)

    def all_logits(self, image: Tensor) -> list[Tensor]:
        """The logits of every decoder."""
        features = self.nets[0].encode(image)  # type: ignore[operator]
        return [net.logits(features) for net in self.nets]  # type: ignore[operator]

    def consistency(self, predictions: list[Tensor]) -> Tensor:
        """The sum over ordered pairs of decoders."""
        targets = [sharpen(logits.detach() if self.detach else logits, self.temperature) for logits in predictions]
        pairs = permutations(range(len(predictions)), 2)
        return torch.stack([mse(predictions[i].softmax(1), targets[j]) for i, j in pairs]).sum()

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        known, unknown = self.all_logits(labelled.weak), self.all_logits(unlabelled.weak)
        both = [torch.cat(pair) for pair in zip(known, unknown, strict=True)]
        return {
            "supervised": torch.stack([self.task.criterion(logits, labelled.mask) for logits in known]).sum(),
            "consistency": self.weight * clock.ramp(self.ramp) * self.consistency(both),
        }

    def predict(self, image: Tensor) -> Logits:
        names = ("first", "second", "third")
        return dict(zip(names, self.all_logits(image), strict=False))
