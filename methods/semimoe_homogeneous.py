"""Semi-MoE with experts of one kind, as its project page tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Annotated

import torch
from torch import Tensor, nn

from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task
from benchmark.nets.network import Network
from benchmark.ranges import Log, NonNegative, Range, ShareBelow1
from methods._semimoe_gates import Gate

TINY = 1e-30  # a gate that has shut: its logarithm stays finite, and so does the gradient that opens it again


class SemiMoEHomogeneous(Method):
    """Semi-MoE, homogeneous (Semi-MoE project page 2025): equal experts, a soft gate over their predictions, balanced.

    The page gives neither code, weights, the gate's inside nor the number of experts: all are ours, the gate is that of
    Semi-MoE's code. Only the mixture is supervised, so that experts may specialise.

    Loss:
        L = L_sup(y) + balance (log K - H(mean_batch g)) + w(t) mean_(j<k) mean (softmax E_j - softmax E_k)^2 on x_u
        y = sum_k g_k softmax E_k(x), g = softmax G(features) [B, K]

    Args:
        experts: K; ours.
        weight: w at the end of the ramp; ours.
        ramp: of w; ours.
        balance: of the load balancing; ours.
        dropout: of the gate; 0.1 in Semi-MoE's released code.

    Differs from published code:
        - The page adds an entropy to the loss; minimising it would bring about the collapse that it is to prevent, so
          it is maximised here, up to log K, as in load balancing elsewhere.
    """

    display = "Semi-MoE, homogeneous"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}
    tuning = {"weight": Log(0.2, 5), "balance": Log(0.02, 0.5)}

    def __init__(
        self, task: Task, *, experts: Annotated[int, Range("[2, 100]")] = 3, weight: NonNegative = 1.0,
        ramp: Ramp = "linear", balance: NonNegative = 0.1, dropout: ShareBelow1 = 0.1,
    ) -> None:
        super().__init__()
        self.task, self.weight, self.ramp, self.balance = task, weight, ramp, balance
        nets = [task.network() for _ in range(experts)]
        self.nets: Sequence[Network] = nn.ModuleList(nets)  # type: ignore[assignment]
        self.gate = Gate(experts, nets[0].width, dropout)

    def mixture(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], Tensor]:
        """The mixture as logits, every expert's logits, and the gate [B, K], from the experts' last maps."""
        gate = self.gate(torch.cat(list(maps), 1))
        logits = [net.head(last) for net, last in zip(self.nets, maps, strict=True)]
        shares = torch.stack([z.log_softmax(1) for z in logits], 1) + gate.clamp(min=TINY).log()[:, :, None, None, None]
        return shares.logsumexp(1), logits, gate

    def losses(self, labelled: Batch, unlabelled: Batch, clock: Clock) -> Losses:
        maps = [(net.last_map(labelled.weak), net.last_map(unlabelled.weak)) for net in self.nets]
        logits_l, _, gate_l = self.mixture([pair[0] for pair in maps])
        _, experts_u, gate_u = self.mixture([pair[1] for pair in maps])
        load = torch.cat([gate_l, gate_u]).mean(0)
        for k, share in enumerate(load, start=1):
            self.log(f"gate/{k}", share)
        disagreement = [mse(a.softmax(1), b.softmax(1)) for a, b in combinations(experts_u, 2)]
        return {
            "supervised": self.task.criterion(logits_l, labelled.mask),
            "balance": self.balance * imbalance(load),
            "consistency": self.weight * clock.ramp(self.ramp) * torch.stack(disagreement).mean(),
        }

    def predict(self, image: Tensor) -> Logits:
        return self.mixture([net.last_map(image) for net in self.nets])[0]


def imbalance(load: Tensor) -> Tensor:
    """log K - H(load), of mean gate values [K]: 0 where all experts share alike, log K where one takes all."""
    return math.log(len(load)) + torch.xlogy(load, load.clamp(min=TINY)).sum()
