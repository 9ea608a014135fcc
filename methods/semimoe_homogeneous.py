"""Semi-MoE with experts of one kind, as its project page tells it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from benchmark.losses import mse
from benchmark.method import Batch, Clock, Logits, Losses, Method, Ramp, Task, require_between, require_share
from benchmark.nets.network import Network
from methods._gating import Gate

TINY = 1e-30  # a gate that has shut: its logarithm stays finite, and so does the gradient that opens it again


class SemiMoEHomogeneous(Method):
    """Semi-MoE project page 2025: K equal experts, a soft gate over their predictions, balanced and made to agree.

    y = sum_k g_k softmax E_k(x), g = softmax G(features) [B, K]. L = L_sup(y) + balance (log K - H(mean_batch g)) +
    w(t) mean over pairs of experts of (softmax E_j - softmax E_k)^2 on unlabelled images. The page prints the balance
    term as an entropy that is added to the loss; minimising an entropy would bring about the very collapse that it is
    to prevent, so it is maximised here, up to log K, as in load balancing elsewhere. No code was released and the page
    gives neither weights nor the gate's inside nor the number of experts: all of these are ours, and the gate is that
    of the paper (eq. 8), on the experts' last maps. Only the mixture is supervised, so that experts may specialise.
    """

    display = "Semi-MoE, homogeneous"
    views = {"labelled": ("weak",), "unlabelled": ("weak",)}

    def __init__(
        self, task: Task, *, experts: int = 3, weight: float = 1.0, ramp: Ramp = "linear", balance: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_between(2, 100, experts=experts)
        require_between(0, math.inf, weight=weight, balance=balance)
        require_share(dropout=dropout)
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
        pairs = [(net.last_map(labelled.weak), net.last_map(unlabelled.weak)) for net in self.nets]
        seen, _, seen_gate = self.mixture([pair[0] for pair in pairs])
        _, unseen, unseen_gate = self.mixture([pair[1] for pair in pairs])
        load = torch.cat([seen_gate, unseen_gate]).mean(0)
        for k, share in enumerate(load, start=1):
            self.log(f"gate/{k}", share)
        apart = [mse(a.softmax(1), b.softmax(1)) for a, b in combinations(unseen, 2)]
        return {
            "supervised": self.task.criterion(seen, labelled.mask),
            "balance": self.balance * imbalance(load),
            "consistency": self.weight * clock.ramp(self.ramp) * torch.stack(apart).mean(),
        }

    def predict(self, image: Tensor) -> Logits:
        return self.mixture([net.last_map(image) for net in self.nets])[0]


def imbalance(load: Tensor) -> Tensor:
    """log K - H(load), of mean gate values [K]: 0 where all experts share alike, log K where one takes all."""
    return math.log(len(load)) + torch.xlogy(load, load.clamp(min=TINY)).sum()
