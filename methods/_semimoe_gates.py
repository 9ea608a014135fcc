"""Semi-MoE's gates and its adaptive loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """Weights of the experts for one task: softmax(W3 dropout(h * softmax(W2 h))), h = relu(W1 mean_xy(X)).

    That is the released code. The paper's eq. 8 is softmax(LinearAttn(MLP(AvgPool(X)))), which says of no product with
    a softmax. Maps [B, experts * width, H, W] to weights [B, experts].
    """

    def __init__(self, experts: int, width: int, dropout: float) -> None:
        super().__init__()
        hidden = experts * width // 2
        self.squeeze = nn.Linear(experts * width, hidden)
        self.attention = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.choose = nn.Linear(hidden, experts)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = self.squeeze(maps.mean((2, 3))).relu()
        hidden = hidden * self.attention(hidden).softmax(1)
        return self.choose(self.dropout(hidden)).softmax(1)


class MultiGate(nn.Module):
    """For each task a gate over all experts' maps, and a 1x1 head on their weighted sum (eq. 9).

    Input: one map [B, width, H, W] an expert. Output: logits by task; the weights are returned beside them.
    """

    def __init__(self, outputs: Mapping[str, int], experts: Sequence[str], width: int, dropout: float) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({task: Gate(len(experts), width, dropout) for task in outputs})
        self.heads = nn.ModuleDict({task: nn.Conv2d(width, n, 1) for task, n in outputs.items()})

    def forward(self, maps: Sequence[Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        together = torch.cat(list(maps), 1)
        weights = {task: gate(together) for task, gate in self.gates.items()}
        fused = {task: head(weighted_sum(weights[task], maps)) for task, head in self.heads.items()}
        return fused, weights


def weighted_sum(weights: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """sum_e weights[:, e] maps[e]: weights [B, experts], maps [B, width, H, W] each."""
    total = weights[:, 0, None, None, None] * maps[0]
    for expert in range(1, len(maps)):
        total = total + weights[:, expert, None, None, None] * maps[expert]
    return total


class AdaptiveLoss(nn.Module):
    """Eq. 11: sum_k a_k exp(-s_k) L_k + gamma sum_k exp(s_k), with learned s_k that start at 1.

    The paper drops eq. 10's 1/2 on the regression term (a = 1 for all); the released code keeps a = 0.5 there.
    """

    def __init__(self, tasks: Sequence[str], gamma: float, scale: Mapping[str, float]) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.ones(len(tasks)))
        self.gamma, self.tasks = gamma, tuple(tasks)
        self.scale = [scale.get(task, 1.0) for task in tasks]

    def forward(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        weight = torch.exp(-self.s)
        terms = {task: self.scale[k] * weight[k] * losses[task] for k, task in enumerate(self.tasks)}
        return terms | {"regulariser": self.gamma * torch.exp(self.s).sum()}
