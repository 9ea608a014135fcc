"""Distances between the outlines of two masks, in pixels, by the definitions of MedPy that published code uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def surface_distances(prediction: NDArray, truth: NDArray) -> dict[str, float]:
    """HD95 and average symmetric surface distance of two masks [H, W], nan when either is empty.

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
