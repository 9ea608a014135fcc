"""Counts on the device, where the probabilities are."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.metrics.counts import CONFIDENCES, IGNORE, THRESHOLDS


def threshold_counts(probability: Tensor, mask: Tensor) -> Tensor:
    """TP, FP and FN of `probability > t` for all 45 thresholds t, image by image: int64 [B, 45, 3].

    `probability` [B, H, W] is that of the foreground, compared in float32 with strict >; nan is above no threshold.
    `mask` [B, H, W]: 0 is background, 255 is ignored, the rest foreground.
    One histogram serves all thresholds: a pixel's bin is the number of thresholds below its probability.
    """
    images, bins = mask.shape[0], len(THRESHOLDS) + 1
    edges = torch.tensor(THRESHOLDS, dtype=torch.float32, device=probability.device)
    level = torch.bucketize(probability.float().nan_to_num(nan=0.0), edges)
    kind = (mask != 0).long().masked_fill(mask == IGNORE, 2)
    image = torch.arange(images, device=mask.device).view(-1, 1, 1)
    code = (image * 3 + kind) * bins + level
    histogram = torch.bincount(code.flatten(), minlength=images * 3 * bins).view(images, 3, bins)
    above = histogram.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    positives = histogram[:, 1].sum(-1, keepdim=True)
    return torch.stack((above[:, 1], above[:, 0], positives - above[:, 1]), -1)


def class_counts(prediction: Tensor, mask: Tensor, classes: int) -> Tensor:
    """TP, FP and FN of each class but the background, one against the rest, image by image: int64 [B, classes - 1, 3].

    `prediction` and `mask` [B, H, W] hold class indices; where `mask` is 255 nothing counts.
    """
    images = mask.shape[0]
    image = torch.arange(images, device=mask.device).view(-1, 1, 1)
    code = (image * classes + mask.long()) * classes + prediction
    code = code.masked_fill(mask == IGNORE, images * classes * classes)  # a bin of its own, for what does not count
    table = torch.bincount(code.flatten(), minlength=images * classes * classes + 1)[:-1]
    table = table.view(images, classes, classes)
    right = table.diagonal(dim1=1, dim2=2)
    return torch.stack((right, table.sum(1) - right, table.sum(2) - right), -1)[:, 1:]


def confidence_counts(logits: Tensor, mask: Tensor) -> Tensor:
    """Pixels by predicted class, wrong or right, and confidence max_c p_c in steps of 1 %: int64 [C, 2, 100].

    Bin k counts confidences in [k %, k + 1 %), the last one 1 as well. `logits` [B, C, H, W]; `mask` as in the counts
    above, of two or of several classes.
    """
    classes, bins = logits.shape[1], len(CONFIDENCES)
    confidence, label = logits.softmax(1).max(1)
    edges = torch.tensor(CONFIDENCES[1:], dtype=torch.float32, device=logits.device)
    level = torch.bucketize(confidence, edges, right=True)
    code = (label * 2 + (label == mask.clamp(max=classes - 1))) * bins + level
    code = code.masked_fill(mask == IGNORE, classes * 2 * bins)
    return torch.bincount(code.flatten(), minlength=classes * 2 * bins + 1)[:-1].view(classes, 2, bins)
