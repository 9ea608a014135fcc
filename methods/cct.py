"""Cross-consistency training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Method, Ramp, Task, require, require_between
from methods._auxiliary import FullDecoders, LightDecoders


class CCT(Method):
    """Ouali et al. 2020 (CVPR): auxiliary decoders must predict from perturbed features what the main one does.

    L = L_sup(g(z_l)) + weight ramp 1/K sum_k mean (softmax g_k(P_k(z_u)) - sg softmax g(z_u))^2, z = f(x). The main
    decoder g learns from labelled images alone and is all that predicts; the K = 30 auxiliary decoders are light, read
    the deepest feature and see unlabelled images alone. `vat` to `feature_noise` count them by perturbation, with the
    paper's strengths. Objects for CutOut are found at the feature's size, without the CPU; VAT's direction is the limit
    of the paper's, whose step of 1e-6 is lost in single precision; a light decoder is linear, without the ReLUs of the
    authors' code; F-drop has the paper's U(0.7, 0.9), not the code's U(0.6, 0.9); the code's ten times faster decoders
    are for a pretrained encoder, and not repeated here.
    SSL4MIS and XNet have another method under this name: `decoders=full`, three copies of the network's own decoder,
    which read perturbed features of all scales (the counts are not used then); `supervise_auxiliary`, the supervised
    term is the mean of all heads'; `detach=false`, the main decoder follows the auxiliary ones, too. Their weights are
    0.1 and 1, where the paper's is 30. Default: the paper.
    """

    display = "CCT"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, weight: float = 30.0, ramp: Ramp = "sigmoid", ramp_until: float = 0.1, vat: int = 2,
        dropout: int = 6, cutout: int = 6, context_mask: int = 2, object_mask: int = 2, feature_drop: int = 6,
        feature_noise: int = 6, decoders: Literal["light", "full"] = "light", supervise_auxiliary: bool = False,
        detach: bool = True,
    ) -> None:
        super().__init__()
        counts = {
            "vat": vat, "dropout": dropout, "cutout": cutout, "context_mask": context_mask, "object_mask": object_mask,
            "feature_drop": feature_drop, "feature_noise": feature_noise,
        }
        require_between(0, math.inf, weight=weight, **counts)
        require(0 < ramp_until <= 1, f"method.ramp_until must lie in (0, 1], not {ramp_until}")
        some = decoders == "full" or sum(counts.values()) > 0
        require(some, "method.vat to method.feature_noise must not all be 0: there would be no auxiliary decoder")
        self.task, self.weight, self.ramp, self.ramp_until = task, weight, ramp, ramp_until
        self.supervise_auxiliary, self.detach = supervise_auxiliary, detach
        self.net = task.network()
        width = self.net.feature_widths[-1]
        self.auxiliary: LightDecoders | FullDecoders
        if decoders == "full":
            self.auxiliary = FullDecoders([task.network() for _ in range(3)])
        else:
            with task.init_seed():
                self.auxiliary = LightDecoders(counts, width, task.classes, self.net.divisor)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Iterator[Mapping[str, Tensor]]:
        features = self.net.encode(labelled.weak)
        heads = [self.net.logits(features)]
        if self.supervise_auxiliary:
            heads += self.auxiliary(features, heads[0])
        yield {"supervised": torch.stack([self.task.criterion(logits, labelled.mask) for logits in heads]).mean()}

        features = self.net.encode(unlabelled.weak)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach):
            logits = self.net.logits(features)
        belief = logits.softmax(1)
        errors = torch.stack([mse(other.softmax(1), belief) for other in self.auxiliary(features, logits)])
        yield {"consistency": self.weight * clock.ramp(self.ramp, self.ramp_until) * errors.mean()}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
