"""Pixel counts and the scores that follow from them. A count is (TP, FP, FN) of foreground against background."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

IGNORE = 255
THRESHOLDS = np.arange(45) * 0.02  # 0, 0.02, ..., 0.88, as in the evaluation of the XNet family
CONFIDENCES = np.arange(100) / 100  # lower ends of the bins that pseudo-labels are counted in


def class_confusion(prediction: NDArray, mask: NDArray, classes: int, first: int = 1) -> NDArray[np.int64]:
    """TP, FP and FN in pixels of each class from `first` on, one against the rest: [classes - first, 3].

    Both masks [H, W] hold class indices; where `mask` is 255 nothing counts. ValueError when the shapes differ.
    """
    if prediction.shape != mask.shape:
        raise ValueError(f"prediction {prediction.shape} and mask {mask.shape} differ in shape")
    valid, rows = mask != IGNORE, []
    for kind in range(first, classes):
        found, there = prediction == kind, mask == kind
        right = np.count_nonzero(found & there)
        rows.append((right, np.count_nonzero(found & valid) - right, np.count_nonzero(there) - right))
    return np.array(rows, dtype=np.int64)


def dice(counts: ArrayLike) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of counts [..., 3]; nan where there is nothing to find and nothing was found."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def jaccard(counts: ArrayLike) -> NDArray[np.float64]:
    """TP / (TP + FP + FN) of counts [..., 3]; nan where there is nothing to find and nothing was found."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return _ratio(tp, tp + fp + fn)


def precision(counts: ArrayLike) -> NDArray[np.float64]:
    """TP / (TP + FP) of counts [..., 3]: below 1, too much was found; nan where nothing was found."""
    tp, fp, _ = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return _ratio(tp, tp + fp)


def recall(counts: ArrayLike) -> NDArray[np.float64]:
    """TP / (TP + FN) of counts [..., 3]: below 1, something was missed; nan where there is nothing to find."""
    tp, _, fn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    return _ratio(tp, tp + fn)


def over_classes(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """The mean over the classes where it is defined; nan where it is defined for none."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis), known.sum(axis))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
