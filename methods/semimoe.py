"""Semi-MoE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.losses import boundary_dice_loss, dice_loss, valid_mse
from benchmark.method import Batch, Clock, Logits, Method, NotApplicable, ParamGroup, Task, require
from benchmark.nets.network import Network, initialise
from benchmark.ranges import Log, NonNegative, Positive, ShareBelow1
from benchmark.targets import boundary, signed_distance
from methods._semimoe_gates import AdaptiveLoss, MultiGate

OUTPUTS = {"seg": 2, "sdf": 1, "bnd": 2}
TARGETS = {"seg": "mask", "sdf": "sdf", "bnd": "boundary"}  # of a labelled batch


class SemiMoE(Method):
    """Semi-MoE (Vu et al. 2025, BMVC, arXiv 2509.13834): experts for mask, distance and boundary, fused by gates.

    Paper, released code and parameter table are three things.

    Loss:
        L = A(labelled) + weight_max ramp A(unlabelled), a linear ramp
        A(L) = sum_k a_k exp(-s_k) L_k + gamma exp(s_k), s learned (eq. 11)
        labelled (eq. 4): experts and fused heads learn the mask by the configured criterion, distance by the squared
            error of tanh, boundary by Dice
        unlabelled (eq. 5, 6): argmax, tanh and argmax of the fused heads, no gradient, teach the experts; masks by Dice

    Args:
        experts: which of seg, sdf and bnd; seg is needed. Table 2 leaves out one at a time.
        encoder: `separate` U-Nets in the released code; one `shared` encoder is behind the paper's 181 M parameters.
        pseudo_labels: `single` derives distance and boundary from the pseudo-mask: Table 4's single gate.
        loss: `linear` is the plain sum of the terms: Table 4's linear loss.
        gamma: 0.4 on GlaS, 0.8 on CRAG in the paper; 0.4 for both in the released code.
        sdf_scale: a of the distance, 1 elsewhere. 1 in the paper, 0.5 in the released code.
        weight_max: 5 in the paper ("time-dependent warming up", which names no ramp), 0.5 in the released code.
        output: which mask is official. The released code reports the fused one.
        dropout: of the gates. 0.1 in the released code.
        sdf_broadcast: the released code's mistake: every distance map is compared with every target of its batch.
        gate_init: of gates and fused heads. `kaiming`, with zero biases, is the released code's: logits twice as large.

    Differs from published code:
        - The code back-propagates the unlabelled part first; here the labelled part is, which BatchNorm alone can tell.
    """

    display = "Semi-MoE"
    labels_from = "fused"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    later = {"gate_init": "default"}
    tuning = {"weight_max": Log(0.1, 10), "gamma": Log(0.1, 1.6)}

    def __init__(
        self, task: Task, *, experts: tuple[str, ...] = ("seg", "sdf", "bnd"),
        encoder: Literal["separate", "shared"] = "separate", pseudo_labels: Literal["multi", "single"] = "multi",
        loss: Literal["adaptive", "linear"] = "adaptive", gamma: Positive = 0.4, sdf_scale: NonNegative = 1.0,
        weight_max: NonNegative = 5.0, output: Literal["fused", "expert"] = "fused", dropout: ShareBelow1 = 0.1,
        sdf_broadcast: bool = False, gate_init: Literal["default", "kaiming"] = "default",
    ) -> None:
        super().__init__()
        unknown = [name for name in experts if name not in OUTPUTS]
        require(not unknown, f"method.experts: unknown {', '.join(unknown)}; known: {', '.join(OUTPUTS)}")
        require("seg" in experts, "method.experts must contain seg, the main task")
        require(len(set(experts)) == len(experts), "method.experts: one is named twice")
        if task.classes != 2:
            raise NotApplicable("semimoe's distance and boundary are defined for two classes")
        self.task = task
        self.experts = tuple(name for name in OUTPUTS if name in experts)
        self.targets = tuple(TARGETS[name] for name in self.experts[1:])
        nets = {name: task.network(OUTPUTS[name]) for name in self.experts}
        if encoder == "shared":
            for name in self.experts[1:]:
                del nets[name].encoder
        fused = self.experts if pseudo_labels == "multi" else ("seg",)
        self.gate = MultiGate({k: OUTPUTS[k] for k in fused}, self.experts, nets["seg"].width, dropout)
        if gate_init == "kaiming":
            initialise(self.gate, "fan_in")
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
            pred = logits.tanh()
            if labelled and self.sdf_broadcast:
                pred, target = torch.broadcast_tensors(pred, target.squeeze(1))
            return valid_mse(pred, target)
        if name == "bnd":
            return boundary_dice_loss(logits, target)
        return self.task.criterion(logits, target) if labelled else dice_loss(logits, target)

    def pseudo_labels(self, fused: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 5; the single-gate ablation derives distance and boundary from the pseudo-mask."""
        mask = fused["seg"].argmax(1)
        labels = {"seg": mask}
        if "sdf" in self.experts:
            labels["sdf"] = fused["sdf"].tanh() if "sdf" in fused else signed_distance(mask)
        if "bnd" in self.experts:
            labels["bnd"] = fused["bnd"].argmax(1) if "bnd" in fused else boundary(mask)
        return labels

    def combine(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The adaptive loss's terms, or the plain sum's."""
        return self.adaptive(losses) if self.adaptive is not None else losses

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Iterator[dict[str, Tensor]]:
        truth = {k: getattr(labelled, TARGETS[k]) for k in self.experts}
        maps = self.features(labelled.weak)
        fused, weights = self.gate([maps[k] for k in self.experts])
        for target, weight in weights.items():
            for k, name in enumerate(self.experts):
                self.log(f"gate/{target}/{name}", weight[:, k].mean())
        losses = {k: self.task_loss(k, self.nets[k].head(maps[k]), truth[k], True) for k in self.experts}
        for k in fused:
            losses[k] = losses[k] + self.task_loss(k, fused[k], truth[k], True)
        self.log("supervised", losses["seg"])  # without the learned weight, which changes while the loss falls
        yield {f"labelled/{k}": term for k, term in self.combine(losses).items()}

        maps = self.features(unlabelled.weak)
        with torch.no_grad():
            labels = self.pseudo_labels(self.gate([maps[k] for k in self.experts])[0])
        losses = {k: self.task_loss(k, self.nets[k].head(maps[k]), labels[k], False) for k in self.experts}
        ramp = self.weight_max * clock.ramp("linear")
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
