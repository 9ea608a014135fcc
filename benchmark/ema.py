"""The moving average of a network: the teacher of Mean Teacher and its descendants."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

EmaStep = Literal["iteration", "epoch"]
BNStats = Literal["ema", "copy", "own"]


class Teacher(nn.Module):
    """A copy of a network that follows it by a moving average and is never trained.

    `bn_stats` says what becomes of BatchNorm's running statistics: `ema` averages them like weights, `copy` takes the
    student's; the teacher then predicts in evaluation mode. With `own` it predicts in training mode and keeps
    statistics of the images that it has seen (SSL4MIS, UA-MT, XNet).
    """

    def __init__(self, net: nn.Module, bn_stats: BNStats = "ema") -> None:
        super().__init__()
        self.net: Any = copy.deepcopy(net).requires_grad_(False)
        self.bn_stats = bn_stats
        self.train(self.training)

    def train(self, mode: bool = True) -> Teacher:
        """Training mode only where the statistics are its own."""
        super().train(mode)
        self.net.train(mode and self.bn_stats == "own")
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits; without a gradient in training mode."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
            logits: Tensor = self.net(image)
        return logits

    @torch.no_grad()
    def ema_update(self, net: nn.Module, alpha: Tensor) -> None:
        """theta' = alpha theta' + (1 - alpha) theta, over the parameters and, with `ema`, the float buffers.

        `alpha`: a 0-dim tensor, as `Clock.ema` gives it. 1 changes no parameter, 0 copies.
        """
        if not isinstance(alpha, Tensor):
            raise TypeError(f"alpha is {alpha!r}; give ema_update(net, clock.ema({alpha!r}))")
        slow: list[Tensor] = list(self.net.parameters())
        fast: list[Tensor] = list(net.parameters())
        pairs = list(zip(self.net.buffers(), net.buffers(), strict=True))
        if self.bn_stats == "ema":
            slow += [mine for mine, _ in pairs if mine.is_floating_point()]
            fast += [yours for mine, yours in pairs if mine.is_floating_point()]
        torch._foreach_mul_(slow, alpha)
        torch._foreach_add_(slow, torch._foreach_mul(fast, 1 - alpha))
        for mine, yours in pairs:
            if self.bn_stats == "copy" or (self.bn_stats == "ema" and not mine.is_floating_point()):
                mine.copy_(torch.where(alpha < 1, yours, mine))
        for module in self.net.modules():  # in evaluation mode some of timm's keep what they made of earlier weights
            getattr(module, "attention_bias_cache", {}).clear()


def add_noise(image: Tensor, scale: float) -> Tensor:
    """`image` with Gaussian noise of this standard deviation, cut off at twice of it (SSL4MIS, UA-MT)."""
    return image + (scale * torch.randn_like(image)).clamp(-2 * scale, 2 * scale)
