"""Three protocols as views on the counts that a run stored, and the way from one to another, step by step.

`strict`      last step, argmax, every image by itself at its native size; the mean over images.
`validation`  step and threshold with the best pooled Jaccard on validation images, then the pooled test images.
`paper`       step, threshold and output with the best pooled Jaccard on the test images themselves: what the
              published code of the XNet family reports, the best that the test set can give.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.counts import dice, jaccard

PROTOCOLS = ("strict", "validation", "paper")
Counts = Mapping[str, NDArray[Any]]

NO_VALIDATION = "no validation images at this label ratio"
TWO_CLASSES = "defined for two classes only"
UNDEFINED = "neither foreground nor prediction in any image"
MEASURED = {"test_objects": ("object_f1", "object_dice", "object_hausdorff"), "test_surface": ("hd95", "asd")}


def scores(counts: Counts) -> dict[str, dict[str, Any]]:
    """A finished run's scores under all protocols, as fractions (distances in native pixels).

    JSON-safe: what is undefined is null, never nan; a protocol without a score has a `reason`.
    """
    return {"strict": strict(counts), "validation": validation(counts), "paper": paper(counts)}


def strict(counts: Counts) -> dict[str, Any]:
    """Means over the n test images; those with neither foreground nor prediction are `undefined`, left out."""
    official = counts["test_native"][:, 0]
    each = dice(official)
    result: dict[str, Any] = {
        "dice": _mean(each),
        "jaccard": _mean(jaccard(official)),
        "n": len(each),
        "undefined": int(np.isnan(each).sum()),
    }
    for key, names in MEASURED.items():
        for name, values in zip(names, counts[key].T if key in counts else (), strict=False):
            result[name] = _mean(values[np.isfinite(values)])
            result[f"{name}_excluded"] = int((~np.isfinite(values)).sum())
    return result if result["dice"] is not None else result | {"reason": UNDEFINED}


def validation(counts: Counts) -> dict[str, Any]:
    """Pooled test scores of the official output where validation Jaccard is best (the first of equals)."""
    empty = {"dice": None, "jaccard": None, "step": None, "threshold": None}
    if "test_pooled" not in counts:
        return empty | {"reason": TWO_CLASSES}
    if "validation_pooled" not in counts or not len(counts["validation_pooled"]):
        return empty | {"reason": NO_VALIDATION}
    place = _best(counts["validation_pooled"][:, 0])
    if place is None:
        return empty | {"reason": UNDEFINED}
    step, threshold = place
    return _pooled(counts, step, 0, threshold, empty)


def paper(counts: Counts) -> dict[str, Any]:
    """Pooled test scores where the pooled test Jaccard is best, over steps, outputs and thresholds."""
    empty = {"dice": None, "jaccard": None, "step": None, "threshold": None, "output": None}
    if "test_pooled" not in counts:
        return empty | {"reason": TWO_CLASSES}
    place = _best(counts["test_pooled"])
    if place is None:
        return empty | {"reason": UNDEFINED}
    step, output, threshold = place
    return _pooled(counts, step, output, threshold, empty) | {"output": str(counts["outputs"][output])}


def _pooled(counts: Counts, step: int, output: int, threshold: int, empty: dict[str, Any]) -> dict[str, Any]:
    chosen = counts["test_pooled"][step, output, threshold]
    result: dict[str, Any] = {
        "dice": _mean(dice(chosen)),
        "jaccard": _mean(jaccard(chosen)),
        "step": int(counts["steps"][step]),
        "threshold": round(float(counts["thresholds"][threshold]), 6),  # float32 0.02 is not the decimal one
    }
    return result if result["dice"] is not None else empty | {"reason": UNDEFINED}


def _best(pooled: NDArray[Any]) -> tuple[int, ...] | None:
    """Where the Jaccard of counts [..., 3] is greatest, the first of equals; None when defined nowhere."""
    values = jaccard(pooled)
    if np.isnan(values).all():
        return None
    return tuple(int(i) for i in np.unravel_index(np.nanargmax(values), values.shape))


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what is defined, None when nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


class Stage(NamedTuple):
    """One stop on the way from `paper` to `strict`: its Dice, and the exact change from the stop before."""

    name: str
    dice: float
    change: Fraction


STAGES = ("paper", "official output", "last step", "threshold 0.5", "per image", "native size")


def waterfall(counts: Counts) -> list[Stage] | None:
    """Dice from `paper` down to `strict`, one choice taken back at a time, always in this order.

    The changes are exact differences, so they add up to strict - paper with no remainder. The order is fixed
    because what a choice is worth depends on those before it. None when a stop is undefined.
    """
    if "test_pooled" not in counts:
        return None
    pooled = dice(counts["test_pooled"])
    half = int(np.argmin(np.abs(counts["thresholds"] - 0.5)))
    values = [
        _greatest(pooled),
        _greatest(pooled[:, 0]),
        _greatest(pooled[-1, 0]),
        _greatest(pooled[-1, 0, half]),
        _mean(dice(counts["test_images"][:, 0, half])),
        _mean(dice(counts["test_native"][:, 0])),
    ]
    stages, before = [], None
    for name, value in zip(STAGES, values, strict=True):
        if value is None:
            return None
        stages.append(Stage(name, value, Fraction(value) - Fraction(value if before is None else before)))
        before = value
    return stages


def _greatest(values: NDArray[np.float64]) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmax(values))


def everything_is_foreground(counts: Counts) -> float | None:
    """Strict Dice of foreground everywhere; None where the number of valid pixels was not stored."""
    if "test_pixels" not in counts:
        return None
    tp, _, fn = counts["test_native"][:, 0].T
    foreground = tp + fn
    everywhere = np.stack((foreground, counts["test_pixels"] - foreground, np.zeros_like(foreground)), -1)
    return _mean(dice(everywhere))
