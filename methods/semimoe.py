"""Semi-MoE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.losses import boundary_dice_loss, dice_loss, mse
from benchmark.method import (
    Batch,
    Clock,
    Logits,
    Method,
    NotApplicable,
    ParamGroup,
    Task,
    require,
    require_between,
    require_share,
)
from benchmark.nets.network import Network
from benchmark.targets import boundary, signed_distance
from methods._gating import AdaptiveLoss, MultiGate

OUTPUTS = {"seg": 2, "sdf": 1, "bnd": 2}


class SemiMoE(Method):
    """Semi-MoE 2025 (BMVC, arXiv 2509.13834): experts for mask, distance and boundary, fused to pseudo-labels by gates.

    Labelled (eq. 4): every expert and every fused head learns its target: Dice for mask and boundary, squared error of
    tanh for the distance. Unlabelled (eq. 5, 6): argmax, tanh and argmax of the fused heads, without gradient, teach
    the experts. Both pass through the adaptive loss (eq. 11); total = labelled + weight_max * ramp * unlabelled.
    Paper, released code and parameter table are three things: weight_max 5.0 in the text, 0.5 in the code; separate
    U-Nets in the code, one shared encoder behind the table's 181 M; the code keeps 0.5 on the distance term
    (`sdf_scale`) and compares every distance map with every target of its batch (`sdf_broadcast`, off by default).
    The code also back-propagates the unlabelled part first; here the labelled part is, which BatchNorm alone can tell.
    `pseudo_labels=single` and `loss=linear` are the ablations of Table 4, `experts` that of Table 2. Three named
    outputs are one prediction; the released code reports the fused one. Supervised mask terms are the harness's
    criterion, which the `paper` preset sets to Dice.
    """

    display = "Semi-MoE"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    targets = ("sdf", "boundary")

    def __init__(
        self, task: Task, *, experts: tuple[str, ...] = ("seg", "sdf", "bnd"),
        encoder: Literal["separate", "shared"] = "separate", pseudo_labels: Literal["multi", "single"] = "multi",
        loss: Literal["adaptive", "linear"] = "adaptive", gamma: float = 0.4, sdf_scale: float = 1.0,
        weight_max: float = 5.0, output: Literal["fused", "expert"] = "fused", dropout: float = 0.1,
        sdf_broadcast: bool = False,
    ) -> None:
        super().__init__()
        unknown = [name for name in experts if name not in OUTPUTS]
        require(not unknown, f"method.experts: unknown {', '.join(unknown)}; known: {', '.join(OUTPUTS)}")
        require("seg" in experts, "method.experts must contain seg, the main task")
        require(len(set(experts)) == len(experts), "method.experts: one is named twice")
        require_between(0, math.inf, weight_max=weight_max)
        require_share(dropout=dropout)
        if task.classes != 2:
            raise NotApplicable("semimoe's distance and boundary are defined for two classes")
        self.task = task
        self.experts = tuple(name for name in OUTPUTS if name in experts)
        nets = {name: task.network(OUTPUTS[name]) for name in self.experts}
        if encoder == "shared":
            for name in self.experts[1:]:
                del nets[name].encoder
        fused = self.experts if pseudo_labels == "multi" else ("seg",)
        self.gate = MultiGate({k: OUTPUTS[k] for k in fused}, self.experts, nets["seg"].width, dropout)
        self.nets: Mapping[str, Network] = nn.ModuleDict(nets)  # type: ignore[assignment]
        self.adaptive = AdaptiveLoss(self.experts, gamma, {"sdf": sdf_scale}) if loss == "adaptive" else None
        self.shared, self.weight_max, self.output = encoder == "shared", weight_max, output
        self.sdf_broadcast = sdf_broadcast

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """The last map [B, width, H, W] of every expert."""
        common = self.nets["seg"].encode(image) if self.shared else None
        return {k: net.decode(common or net.encode(image))[-1] for k, net in self.nets.items()}

    def task_loss(self, name: str, logits: Tensor, target: Tensor, labelled: bool) -> Tensor:
        """Eq. 4 and 6 for one task; `target` is a mask, a boundary [B, H, W] or a distance [B, 1, H, W]."""
        if name == "sdf":
            if labelled and self.sdf_broadcast:
                return (logits.tanh() - target.squeeze(1)).square().mean()
            return mse(logits.tanh(), target)
        if name == "bnd":
            return boundary_dice_loss(logits, target)
        return self.task.criterion(logits, target) if labelled else dice_loss(logits, target)

    def pseudo_labels(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 5; the single-gate ablation derives distance and boundary from the pseudo-mask."""
        mask = fused["seg"].argmax(1)
        targets = {"seg": mask}
        if "sdf" in self.experts:
            targets["sdf"] = fused["sdf"].tanh() if "sdf" in fused else signed_distance(mask)
        if "bnd" in self.experts:
            targets["bnd"] = fused["bnd"].argmax(1) if "bnd" in fused else boundary(mask)
        return targets

    def combine(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The adaptive loss's terms, or the plain sum's."""
        return self.adaptive(losses) if self.adaptive is not None else losses

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Iterator[dict[str, Tensor]]:
        truth = {"seg": labelled.mask, "sdf": labelled.sdf, "bnd": labelled.boundary}
        maps = self.features(labelled.weak)
        fused, weights = self.gate([maps[k] for k in self.experts])
        for target, weight in weights.items():
            for k, name in enumerate(self.experts):
                self.log(f"gate/{target}/{name}", weight[:, k].mean())
        losses = {k: self.task_loss(k, self.nets[k].head(maps[k]), truth[k], True) for k in self.experts}
        for k in fused:
            losses[k] = losses[k] + self.task_loss(k, fused[k], truth[k], True)
        yield {f"labelled/{k}": term for k, term in self.combine(losses).items()}

        maps = self.features(unlabelled.weak)
        with torch.no_grad():
            pseudo = self.pseudo_labels(self.gate([maps[k] for k in self.experts])[0])
        losses = {k: self.task_loss(k, self.nets[k].head(maps[k]), pseudo[k], False) for k in self.experts}
        ramp = self.weight_max * clock.linear()
        yield {f"unlabelled/{k}": ramp * term for k, term in self.combine(losses).items()}

    def param_groups(self) -> list[ParamGroup]:
        """The loss's own weights under Adam with lr 0.05 (released code), all else under the configured optimiser."""
        if self.adaptive is None:
            return super().param_groups()
        rest = [p for name, p in self.named_parameters() if not name.startswith("adaptive.")]
        weights = ParamGroup([self.adaptive.s], "adam", lr=0.05, weight_decay=5e-5, schedule="constant")
        return [ParamGroup(rest), weights]

    def predict(self, image: Tensor) -> Logits:
        maps = self.features(image)
        fused = self.gate([maps[k] for k in self.experts])[0]["seg"]
        expert = self.nets["seg"].head(maps["seg"])
        both = {"fused": fused, "expert": expert}
        return both if self.output == "fused" else {"expert": expert, "fused": fused}
