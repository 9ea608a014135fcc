"""Cross-consistency training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Method, Parts, Ramp, Task, require
from benchmark.ranges import Choice, CountOrNone, Log, NonNegative, ShareAbove0
from methods._cct_decoders import FullDecoders, LightDecoders


class CCT(Method):
    """CCT (Ouali et al. 2020, CVPR): auxiliary decoders must predict from perturbed features what the main one does.

    The main decoder g learns from labelled images alone and is all that predicts; the auxiliary decoders g_k are light,
    read one feature and see unlabelled images alone. SSL4MIS and XNet have another method under this name:
    `decoders=full supervise_auxiliary=true detach=false`.

    Loss:
        L = L_sup(g(z_l)) + w(t) 1/K sum_k mean (softmax g_k(P_k(z_u)) - softmax g(z_u))^2, z = f(x)
        no gradient through the target softmax g(z_u); the mean is over classes, too

    Args:
        weight: w at the end of the ramp. The authors' 30 over 21 classes is 30 * 2 / 21 over two; SSL4MIS 0.1, XNet 1.
        ramp: of w. Sigmoid in the authors' code and SSL4MIS, linear in XNet.
        ramp_until: share of training at which the ramp ends. 0.1 in the authors' code, 1 in SSL4MIS and XNet.
        vat: number of decoders of features moved by 2 where the prediction changes most. The authors have 2.
        dropout: of features without half of their channels. The authors have 6, and so on.
        cutout: of features without a part of every predicted object's box. 6.
        context_mask: of the foreground's features alone. 2.
        object_mask: of the background's features alone. 2.
        feature_drop: of features without places above U(0.7, 0.9) of the maximum; in the paper U(0.6, 0.9). 6. Meant
            for features after a ReLU: of EfficientNet-Lite0's, which have both signs, it drops less than a tenth.
        feature_noise: of features times 1 + U(-0.3, 0.3). 6.
        decoders: `full`: three copies of the network's decoder, of perturbed features of all scales; no counts then.
        supervise_auxiliary: the supervised term is the mean of all heads'. True in SSL4MIS and XNet.
        detach: no gradient through the target. False in SSL4MIS and XNet.
        reads: which feature the light decoders read. The authors' has an `eighth` of the side; the `deepest` one of
            EfficientNet-Lite0 a 32nd, 5 x 5 positions of an image of 160 px.

    Differs from published code:
        - Objects for CutOut are found at the feature's size, and on the device; each has its box, where the authors'
          small ones and those inside others have none.
        - VAT's direction is the limit of the authors', whose step of 1e-6 is lost in single precision.
        - Its main decoder reads that feature alone; here it has the features of all scales.
        - A light decoder is linear, without ReLUs, and the decoders' learning rate is not ten times higher.
    """

    display = "CCT"
    later = {"reads": "deepest"}
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.57, 14.3), "ramp_until": Choice(0.1, 0.4, 1.0)}

    def __init__(
        self, task: Task, *, weight: NonNegative = 2.86, ramp: Ramp = "sigmoid", ramp_until: ShareAbove0 = 0.1,
        vat: CountOrNone = 2, dropout: CountOrNone = 6, cutout: CountOrNone = 6, context_mask: CountOrNone = 2,
        object_mask: CountOrNone = 2, feature_drop: CountOrNone = 6, feature_noise: CountOrNone = 6,
        decoders: Literal["light", "full"] = "light", supervise_auxiliary: bool = False, detach: bool = True,
        reads: Literal["deepest", "eighth"] = "deepest",
    ) -> None:
        super().__init__()
        counts = {
            "vat": vat, "dropout": dropout, "cutout": cutout, "context_mask": context_mask, "object_mask": object_mask,
            "feature_drop": feature_drop, "feature_noise": feature_noise,
        }
        some = decoders == "full" or sum(counts.values()) > 0
        require(some, "method.vat to method.feature_noise must not all be 0: there would be no auxiliary decoder")
        self.task, self.weight, self.ramp, self.ramp_until = task, weight, ramp, ramp_until
        self.supervise_auxiliary, self.detach = supervise_auxiliary, detach
        self.net = task.network()
        self.auxiliary: LightDecoders | FullDecoders
        if decoders == "full":
            self.auxiliary = FullDecoders([task.network() for _ in range(3)])
        else:
            coarsest = 8 if reads == "eighth" else task.size
            level, stride = self.net.level(coarsest, torch.zeros(1, task.channels, task.size, task.size))
            with task.init_seed():
                self.auxiliary = LightDecoders(counts, self.net.feature_widths[level], task.classes, stride, level)

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Parts:
        features = self.net.encode(labelled.weak)
        heads = [self.net.logits(features)]
        if self.supervise_auxiliary:
            heads += self.auxiliary(features, heads[0])
        yield {"supervised": torch.stack([self.task.criterion(logits, labelled.mask) for logits in heads]).mean()}

        features = self.net.encode(unlabelled.weak)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach):
            logits = self.net.logits(features)
        target_prob = logits.softmax(1)
        errors = torch.stack([mse(other.softmax(1), target_prob) for other in self.auxiliary(features, logits)])
        yield {"consistency": self.weight * clock.ramp(self.ramp, self.ramp_until) * errors.mean()}

    def predict(self, image: Tensor) -> Logits:
        return self.net(image)
