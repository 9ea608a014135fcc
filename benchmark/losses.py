"""Losses and ramps that methods share: pure functions on tensors, label 255 ignored everywhere, no host sync.

Shapes: logits and probabilities [B, C, H, W]; targets int64 [B, H, W]; results are scalars in at least float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

IGNORE = 255


def _wide(tensor: Tensor) -> Tensor:
    """At least float32: sums over pixels overflow or lose digits in half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def one_hot(target: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The target as [B, C, H, W] and its valid pixels as [B, 1, H, W], both of bool."""
    kinds = torch.arange(classes, device=target.device).view(1, -1, 1, 1)
    return target.unsqueeze(1) == kinds, (target != IGNORE).unsqueeze(1)


def cross_entropy(logits: Tensor, target: Tensor, *, over: Literal["valid", "all"] = "valid") -> Tensor:
    """Mean of -log p[target] over the valid pixels, or their sum `over` all; 0 when every pixel is ignored.

    Written with `gather`, whose backward has a deterministic CUDA kernel; NLLLoss in two dimensions has none.
    """
    valid = target != IGNORE
    chosen = torch.where(valid, target, 0).unsqueeze(1)
    nll = -_wide(logits).log_softmax(1).gather(1, chosen).squeeze(1)
    pixels = valid.sum().clamp(min=1) if over == "valid" else valid.numel()
    return torch.where(valid, nll, 0).sum() / pixels


def soft_cross_entropy(logits: Tensor, target_prob: Tensor) -> Tensor:
    """Mean over pixels of -sum_c q_c log p_c, q the probabilities `target_prob` [B, C, H, W]."""
    return -(_wide(target_prob) * _wide(logits).log_softmax(1)).sum(1).mean()


def entropy(logits: Tensor) -> Tensor:
    """-sum_c p_c log p_c of every pixel, in nats, between 0 and log C: [B, H, W]."""
    log_prob = _wide(logits).log_softmax(1)
    return -(log_prob.exp() * log_prob).sum(1)


def kl_divergence(logits: Tensor, other: Tensor) -> Tensor:
    """KL(p || q) of every pixel, sum_c p_c (log p_c - log q_c), p and q from two tensors of logits: [B, H, W]."""
    first, second = _wide(logits).log_softmax(1), _wide(other).log_softmax(1)
    return (first.exp() * (first - second)).sum(1)


def mean_logits(predictions: Sequence[Tensor]) -> Tensor:
    """Logits whose softmax is the mean of the predictions' softmaxes: log mean_k softmax(z_k)."""
    log_probs = torch.stack([_wide(logits).log_softmax(1) for logits in predictions])
    return log_probs.logsumexp(0) - math.log(len(predictions))


def pseudo_label(logits: Tensor, threshold: float | Tensor = 0.0) -> Tensor:
    """The most likely class of every pixel, 255 where its probability is below `threshold`: int64, no gradient."""
    confidence, label = _wide(logits.detach()).softmax(1).max(1)
    return torch.where(confidence >= threshold, label, IGNORE)


def dice_loss(logits: Tensor, target: Tensor, *, smooth: float = 1.0, squared: bool = True) -> Tensor:
    """Soft Dice loss, every class, per sample, then the mean: 1 - (2 sum p y + s) / (sum p^2 + sum y^2 + s).

    The form of the XNet code base, on which Semi-MoE builds; `squared=False` has sum p + sum y below (V-Net's has p^2).
    """
    hot, valid = one_hot(target, logits.shape[1])
    probability = _wide(logits).softmax(1) * valid
    truth = hot & valid
    overlap = (probability * truth).sum((2, 3))
    mass = (probability.square() if squared else probability).sum((2, 3)) + truth.sum((2, 3))
    return (1 - (2 * overlap + smooth) / (mass + smooth)).mean()


def boundary_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Semi-MoE's Dice for thin structures: 1 - 2TP / (2TP + FP + FN), per sample and class, smooth 1e-8."""
    return dice_loss(logits, target, smooth=1e-8, squared=False)


def ce_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice."""
    return cross_entropy(logits, target) + dice_loss(logits, target)


def mse(first: Tensor, second: Tensor) -> Tensor:
    """Mean over batch, channels and pixels of the squared difference; the shapes must be equal."""
    if first.shape != second.shape:
        raise ValueError(f"mse of {tuple(first.shape)} and {tuple(second.shape)}: broadcasting is never meant here")
    return (_wide(first) - _wide(second)).square().mean()


def valid_mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error where the real-valued `target` of equal shape is known, not 255; 0 where it is nowhere."""
    valid = target != IGNORE
    known = valid.sum().clamp(min=1) / valid.numel()
    return mse(torch.where(valid, pred, target), target) / known


def sigmoid_ramp(fraction: Tensor) -> Tensor:
    """exp(-5 (1 - f)^2), then 1 (Laine and Aila 2017; `sigmoid_rampup` of the published code bases)."""
    return torch.exp(-5 * (1 - fraction.clamp(0, 1)).square())


RAMPS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda fraction: fraction.clamp(0, 1), "sigmoid": sigmoid_ramp, "constant": torch.ones_like,
}
CRITERIA = {"ce_dice": ce_dice, "dice": dice_loss}
