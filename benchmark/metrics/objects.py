"""Scores of shapes: the object scores of the GlaS challenge, and distances between outlines.

Object scores: Sirinukunwattana et al. 2017, Medical Image Analysis 35, section 4.

A gland S of the prediction and a gland G of the truth correspond when G is the one that overlaps S most (the lowest
id of equal ones). What the paper leaves open follows the challenge's own evaluation: a gland is found when more than
half of it is covered, so that no gland is found twice, and FN are the glands not found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, ...]


def object_scores(prediction: NDArray, truth: NDArray) -> dict[str, float]:
    """Object F1, object Dice and object Hausdorff distance (pixels) of two maps [H, W] of object ids, 0 background.

    A boolean map is taken apart into its 8-connected components first. Nothing against nothing is undefined: nan
    in all three. When only one side is empty, F1 and Dice are 0 and the distance is infinite.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    found, true = _numbered(prediction), _numbered(truth)
    if not found.any() or not true.any():
        if found.any() != true.any():
            return {"f1": 0.0, "dice": 0.0, "hausdorff": np.inf}
        return {"f1": np.nan, "dice": np.nan, "hausdorff": np.nan}
    shared = _overlaps(found, true)
    found_area, true_area = np.bincount(found.flat)[1:], np.bincount(true.flat)[1:]
    distance = _Distances(found, true)
    return {
        "f1": _f1(shared, true_area),
        "dice": (_mean_dice(shared, found_area, true_area) + _mean_dice(shared.T, true_area, found_area)) / 2,
        "hausdorff": (
            _mean_distance(shared, found_area, distance.between, distance.at_least)
            + _mean_distance(shared.T, true_area, lambda j, i: distance.between(i, j), distance.at_least.T)
        ) / 2,
    }


def _numbered(objects: NDArray) -> NDArray[np.int64]:
    """Ids 1, 2, ... without gaps, in the order of the given ones."""
    if objects.dtype == bool:
        return ndimage.label(objects, structure=np.ones((3, 3)))[0].astype(np.int64)
    ids = np.union1d([0], objects)
    return np.searchsorted(ids, objects)


def _overlaps(found: NDArray[np.int64], true: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shared pixels [objects found, objects in truth]."""
    rows, columns = found.max() + 1, true.max() + 1
    table = np.bincount((found * columns + true).flat, minlength=rows * columns)
    return table.reshape(rows, columns)[1:, 1:]


def _f1(shared: NDArray[np.int64], true_area: NDArray[np.int64]) -> float:
    partner = shared.argmax(1)
    covered = 2 * shared[np.arange(len(shared)), partner] > true_area[partner]
    return float(2 * np.count_nonzero(covered) / (len(shared) + len(true_area)))


def _mean_dice(shared: NDArray[np.int64], area: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Dice of every object with its corresponding one, 0 without overlap, weighted by area."""
    partner = shared.argmax(1)
    return float(np.average(2 * shared.max(1) / (area + other[partner]), weights=area))


def _mean_distance(
    shared: NDArray[np.int64], area: NDArray[np.int64], between: Callable[[int, int], float], at_least: NDArray
) -> float:
    """Hausdorff distance of every object to its corresponding one, or to the nearest without overlap, by area."""
    distances = []
    for number, row in enumerate(shared):
        if row.any():
            distances.append(between(number, int(row.argmax())))
            continue
        nearest = np.inf
        for other in np.argsort(at_least[number], kind="stable"):
            if at_least[number, other] >= nearest:
                break
            nearest = min(nearest, between(number, int(other)))
        distances.append(nearest)
    return float(np.average(distances, weights=area))


class _Distances:
    """Hausdorff distances between objects, each pair computed once, and a lower bound of each from bounding boxes."""

    def __init__(self, found: NDArray[np.int64], true: NDArray[np.int64]) -> None:
        self.maps = found, true
        self.boxes: tuple[list[Box], list[Box]] = (ndimage.find_objects(found), ndimage.find_objects(true))
        sides = [np.array([[(s.start, s.stop) for s in box] for box in boxes]).reshape(-1, 4) for boxes in self.boxes]
        # The outermost point of one has a point of the other within the distance: their sides differ by no more.
        self.at_least = np.abs(sides[0][:, None] - sides[1][None]).max(-1).astype(float)
        self.between = cache(self._between)

    def _between(self, i: int, j: int) -> float:
        pair = zip(self.boxes[0][i], self.boxes[1][j], strict=True)
        window = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pair)
        first, second = self.maps[0][window] == i + 1, self.maps[1][window] == j + 1
        return max(_furthest(first & ~second, second), _furthest(second & ~first, first))


def _furthest(points: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    """The greatest distance of `points` to `target`; 0 without points."""
    return float(ndimage.distance_transform_edt(~target)[points].max()) if points.any() else 0.0


def surface_distances(prediction: NDArray, truth: NDArray) -> dict[str, float]:
    """HD95 and average symmetric surface distance (MedPy's) of two masks [H, W], in pixels; nan when either is empty.

    The outline of a mask is its pixels with a 4-neighbour outside of it; beyond the image counts as outside. `hd95`
    is the 95th percentile of the distances from both outlines to the other one, pooled; `asd` the mean of the two
    directions' means, so that a gland that was missed weighs as much as one that was invented.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    found, true = _outline(prediction != 0), _outline(truth != 0)
    if not found.any() or not true.any():
        return {"hd95": np.nan, "asd": np.nan}
    there = ndimage.distance_transform_edt(~true)[found]
    back = ndimage.distance_transform_edt(~found)[true]
    return {
        "hd95": float(np.percentile(np.concatenate((there, back)), 95)),
        "asd": float((there.mean() + back.mean()) / 2),
    }


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask & ~ndimage.binary_erosion(mask)
