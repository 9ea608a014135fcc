"""What a data set holds: counts, sizes, classes, shared patients, statistics, images that occur twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.data.dataset import IGNORE
from benchmark.data.leaks import duplicates, leaks, sides
from benchmark.data.make_splits import members, shared_patients
from benchmark.data.near_duplicates import MOST, SIDE, Alike, lookalikes
from benchmark.data.store import PreparedData

Facts = dict[str, Any]


def examine(prepared: PreparedData) -> Facts:
    """Everything that `data check` tells, as JSON has it; `describe` puts it into words.

    Shares are fractions of the pixels whose truth is known, at native size."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(prepared.groups["set"]):
        places.setdefault(name, []).append(place)
    same = duplicates(prepared)
    alike = None
    if len(prepared.ids) <= MOST and prepared.size >= SIDE:
        alike = _different(prepared, lookalikes(prepared.picture(name)[0] for name in prepared.ids))
    of = sides(prepared)
    training = [prepared.ids[place] for place in places.get("train", [])] or prepared.ids
    mean, deviation = prepared.statistics(prepared.rows_of(training))
    published = prepared.dataset.published_statistics
    return {
        "dataset": prepared.name, "size": prepared.size, "images": len(prepared.ids),
        "fingerprint": prepared.fingerprint, "classes": list(prepared.classes),
        "sets": {name: _set(prepared, rows) for name, rows in places.items()},
        "native_sizes": dict(Counter(f"{width} x {height}" for height, width in prepared.native_sizes).most_common()),
        "tiles": len(prepared.images) if prepared.tiles else None,
        "patients": _patients(prepared),
        "statistics": {"mean": mean, "standard_deviation": deviation},
        "published_statistics": published and {"mean": published[0], "standard_deviation": published[1]},
        "duplicates": same,
        "lookalikes": None if alike is None else [
            {"images": [prepared.ids[pair.first], prepared.ids[pair.second]], **_looks(pair)} for pair in alike
        ],
        "splits": sorted({side.split for side in of}),
        "leaks": [
            {"split": leak.split, "folds": leak.folds, "training": leak.training, "test": leak.test,
             "same_pixels": leak.alike is None, **(_looks(leak.alike) if leak.alike else {})}
            for leak in leaks(prepared.ids, same, alike or [], of)
        ],
    }


def _set(prepared: PreparedData, places: Sequence[int]) -> Facts:
    """Counts of one set; images without a mask count for nothing but their number."""
    ids = [prepared.ids[place] for place in places]
    masked = [name for name in ids if name not in prepared.unmasked]
    pixels = np.zeros(len(prepared.classes), np.int64)
    images = np.zeros(len(prepared.classes), np.int64)
    ignored = 0
    objects = []
    for name in masked:
        counts = np.bincount(prepared.native_classes(name).ravel(), minlength=IGNORE + 1)
        held = counts[:len(prepared.classes)]
        pixels += held
        images += held > 0
        ignored += int(counts[IGNORE])
        objects.append(int(np.count_nonzero(np.bincount(prepared.native(name).ravel())[1:])))
    known = max(1, int(pixels.sum()))
    found: Facts = {
        "images": len(ids), "unlabelled": len(ids) - len(masked), "ignored": ignored / (known + ignored),
        "classes": {
            name: {"pixels": int(count) / known, "images": int(number)}
            for name, count, number in zip(prepared.classes, pixels, images, strict=True)
        },
        "objects": {"all": sum(objects), "fewest": min(objects, default=0), "most": max(objects, default=0)},
    }
    if "grade" in prepared.groups:
        found["grades"] = dict(sorted(Counter(prepared.groups["grade"][place] for place in places).items()))
    for kind in ("patient", "slide"):
        if kind in prepared.groups:
            found[f"{kind}s"] = len({prepared.groups[kind][place] for place in places})
    return found


def _patients(prepared: PreparedData) -> Facts | None:
    """Of the test sets: images and patients, and how many of each are shared with training."""
    if "patient" not in prepared.groups:
        return None
    images = members(prepared)
    shared = shared_patients(images)
    test = [image for image in images if image.tests]
    return {
        "test_images": len(test), "test_images_shared": sum(image.patient in shared for image in test),
        "test_patients": len({image.patient for image in test}), "test_patients_shared": len(shared),
    }


def _different(prepared: PreparedData, pairs: Sequence[Alike]) -> list[Alike]:
    """Those whose pixels are not the same, which is told as such."""
    return [pair for pair in pairs if prepared.hashes[pair.first] != prepared.hashes[pair.second]]


def _looks(pair: Alike) -> Facts:
    return {"position": pair.position, "bits": pair.bits, "correlation": pair.correlation}
