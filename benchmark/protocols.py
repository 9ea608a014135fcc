"""Three protocols as views on the counts that a run stored, and the way from one to another, step by step.

`strict`      last step, argmax, every image by itself at its native size; the mean over images.
`validation`  step and threshold with the best pooled Jaccard on validation images, then the pooled test images.
`paper`       step, threshold and output with the best pooled Jaccard on the test images themselves: what the
              published code of the XNet family reports, the best that the test set can give.

Of several classes, a score is the mean over all but the background, each against the rest, where it is defined; there
is no threshold to choose, and no `paper`, which is a protocol of two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.counts import dice, jaccard, over_classes, precision, recall

PROTOCOLS = ("strict", "validation", "paper")
MEANING = {
    "strict": "last step, argmax, every test image by itself at its native size, mean over images",
    "validation": "step and threshold with the best pooled Jaccard on validation images; test pixels pooled at "
    "working size",
    "paper": "step, threshold and output with the best pooled Jaccard on the test images themselves; test pixels "
    "pooled at working size; an upper bound that nobody can choose without the test masks",
}
Counts = Mapping[str, NDArray[Any]]

EMPTY: dict[str, Any] = {"dice": None, "jaccard": None, "step": None, "threshold": None}
NO_VALIDATION = "no validation images at this label ratio"
TWO_CLASSES = "defined for two classes only"
STRICT_ALONE = "counted for strict alone"
UNDEFINED = "neither foreground nor prediction in any image"
CLASS_MEANS = ("mdice_with_background", "miou_with_background", "pooled_mdice_with_background",
               "pooled_miou_with_background")
MEASURED = {"test_objects": ("object_f1", "object_dice", "object_hausdorff"), "test_surface": ("hd95", "asd")}


def scores(counts: Counts) -> dict[str, dict[str, Any]]:
    """A finished run's scores under all protocols, as fractions (distances in native pixels).

    JSON-safe: what is undefined is null, never nan; a protocol without a score has a `reason`.
    """
    return {"strict": strict(counts), "validation": validation(counts), "paper": paper(counts)}


def strict(counts: Counts) -> dict[str, Any]:
    """Means over the n test images; those with neither foreground nor prediction are `undefined`, left out."""
    each, overlap = per_image(counts, dice), per_image(counts, jaccard)
    result: dict[str, Any] = {
        "dice": _mean(each), "jaccard": _mean(overlap), "precision": _mean(per_image(counts, precision)),
        "recall": _mean(per_image(counts, recall)), "n": len(each),
        "undefined": int(np.isnan(each).sum()),
    }  # fmt: skip
    if "classes" in counts:
        result["classes"] = by_class(counts)
    for key, names in MEASURED.items():
        if key in counts:
            measured = counts[key] if counts[key].ndim == 2 else over_classes(counts[key], 1)
            for name, values in zip(names, measured.T, strict=True):
                result[name] = _mean(values[np.isfinite(values)])
                result[f"{name}_excluded"] = int((~np.isfinite(values)).sum())
    return result if result["dice"] is not None else result | {"reason": UNDEFINED}


def per_image(
    counts: Counts, score: Callable[[NDArray[Any]], NDArray[np.float64]], images: str = "test"
) -> NDArray[np.float64]:
    """`score` of the official output on every image (test, validation) at native size; nan where undefined. [n]."""
    values = score(counts[f"{images}_native"][:, 0])
    return values if values.ndim == 1 else over_classes(values)


def by_class(counts: Counts) -> dict[str, dict[str, Any]]:
    """Of several classes: each one's strict Dice and Jaccard, over the n test images where they are defined."""
    values = {"dice": dice(counts["test_native"][:, 0]), "jaccard": jaccard(counts["test_native"][:, 0])}
    return {
        str(name): {metric: _mean(found[:, place]) for metric, found in values.items()}
        | {"n": int(np.count_nonzero(~np.isnan(values["dice"][:, place])))}
        for place, name in enumerate(counts["classes"])
    }


def class_means(counts: Counts) -> dict[str, float | None]:
    """mDice and mIoU over the background and every class, which no score of a protocol has in it: of the official
    output's argmax at native size, as the mean over images (without the classes that an image lacks), and of all test
    pixels pooled. None where the run did not count what it takes."""
    each, pixels = counts["test_native"][:, 0], counts.get("test_pixels")
    each, background = each if each.ndim == 3 else each[:, None], counts.get("test_background")
    if background is None and pixels is not None and "classes" not in counts:
        tp, fp, fn = each[:, 0].T
        background = np.stack((pixels - tp - fp - fn, fn, fp), -1)
    if background is None:
        return dict.fromkeys(CLASS_MEANS)
    every = np.concatenate((background[:, None], each), axis=1)
    found = [_mean(over_classes(score(part))) for part in (every, every.sum(0)) for score in (dice, jaccard)]
    return dict(zip(CLASS_MEANS, found, strict=True))


def validation(counts: Counts) -> dict[str, Any]:
    """Pooled test scores of the official output where validation Jaccard is best (the first of equals)."""
    several = "_classes" if "classes" in counts else ""
    test, held = counts.get(f"test_pooled{several}"), counts.get(f"validation_pooled{several}")
    if test is None:
        return EMPTY | {"reason": STRICT_ALONE}
    if held is None or not len(held):
        return EMPTY | {"reason": NO_VALIDATION}
    values = jaccard(held[:, 0])
    place = _best(over_classes(values) if several else values)
    if place is None:
        return EMPTY | {"reason": UNDEFINED}
    return _scored(counts, test[place[0], 0, *place[1:]], place[0], None if several else place[1])


def paper(counts: Counts) -> dict[str, Any]:
    """Pooled test scores where the pooled test Jaccard is best, over steps, outputs and thresholds."""
    empty = EMPTY | {"output": None}
    if "test_pooled" not in counts:
        return empty | {"reason": TWO_CLASSES if "classes" in counts else STRICT_ALONE}
    place = _best(jaccard(counts["test_pooled"]))
    if place is None:
        return empty | {"reason": UNDEFINED}
    step, output, threshold = place
    found = _scored(counts, counts["test_pooled"][place], step, threshold)
    return found | {"output": str(counts["outputs"][output])}


def _scored(counts: Counts, chosen: NDArray[Any], step: int, threshold: int | None) -> dict[str, Any]:
    """Scores of the pooled counts that were chosen, [3], or of every class [K, 3]."""
    found: dict[str, Any] = {"dice": _mean(dice(chosen)), "jaccard": _mean(jaccard(chosen))}
    if found["dice"] is None:
        return EMPTY | {"reason": UNDEFINED}
    value = None if threshold is None else float(counts["thresholds"][threshold])
    rounded = None if value is None else round(value, 6)  # float32 0.02 is not the decimal one
    return found | {"step": int(counts["steps"][step]), "threshold": rounded}


def _best(values: NDArray[np.float64]) -> tuple[int, ...] | None:
    """Where the values are greatest, the first of equals; None when defined nowhere."""
    if np.isnan(values).all():
        return None
    return tuple(int(i) for i in np.unravel_index(np.nanargmax(values), values.shape))


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what is defined, None when nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def over_steps(counts: Counts, images: str, output: int = 0) -> NDArray[np.float64] | None:
    """Pooled Dice of `images` (test, validation) at every evaluation, at threshold 0.5 or, of several classes, at the
    argmax; None where these images were not counted. [E]."""
    if f"{images}_pooled_classes" in counts:
        return over_classes(dice(counts[f"{images}_pooled_classes"][:, output]))
    pooled = counts.get(f"{images}_pooled")
    return None if pooled is None or not len(pooled) else dice(pooled[:, output, _half(counts)])


STAGES = ("paper", "official output", "last step", "threshold 0.5", "mean over images", "native size")


def waterfall(counts: Counts) -> dict[str, float] | None:
    """Dice at each of STAGES, from `paper` down to `strict`: one choice is taken back at a time, always in this order,
    because what a choice is worth depends on those before it. None when a stage is undefined.
    """
    if "test_pooled" not in counts:
        return None
    pooled = dice(counts["test_pooled"])
    half = _half(counts)
    choices = [pooled, pooled[:, 0], pooled[-1, 0], pooled[-1, 0, half]]
    values = [None if np.isnan(choice).all() else float(np.nanmax(choice)) for choice in choices]
    values += [_mean(dice(counts["test_images"][:, 0, half])), _mean(dice(counts["test_native"][:, 0]))]
    found = {name: value for name, value in zip(STAGES, values, strict=True) if value is not None}
    return found if len(found) == len(STAGES) else None


def _half(counts: Counts) -> int:
    """The place of threshold 0.5."""
    return int(np.argmin(np.abs(counts["thresholds"] - 0.5)))


def everything_is_foreground(counts: Counts) -> float | None:
    """Strict Dice of foreground everywhere; None of several classes, or where the valid pixels were not counted."""
    if "test_pixels" not in counts or "classes" in counts:
        return None
    tp, _, fn = counts["test_native"][:, 0].T
    foreground = tp + fn
    everywhere = np.stack((foreground, counts["test_pixels"] - foreground, np.zeros_like(foreground)), -1)
    return _mean(dice(everywhere))
