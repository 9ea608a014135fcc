"""What a data set holds, in lines for a person: counts, sizes, classes, shared patients, statistics, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmark.data.dataset import IGNORE, load_dataset
from benchmark.data.make_splits import members, shared_patients
from benchmark.data.prepared import Prepared, load


def check(
    name: str, size: int = 96, *, raw: str | Path | None = None, root: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Prepare the data set if need be (which reads and checks every file) and describe it.

    UserError for the first file that is wrong, as in preparing."""
    return describe(load(name, size, raw=raw, root=root, say=say))


def describe(prepared: Prepared) -> list[str]:
    """The lines of `check` for prepared data."""
    return [
        f"{prepared.name}: {len(prepared.ids)} images, pixels {prepared.fingerprint[:12]}",
        *_sets(prepared),
        _sizes(prepared),
        *_contents(prepared),
        _patients(prepared),
        *_statistics(prepared),
        _duplicates(prepared),
    ]


def _places(prepared: Prepared) -> dict[str, list[int]]:
    """set -> rows, in order of appearance."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(prepared.groups["set"]):
        places.setdefault(name, []).append(place)
    return places


def _sets(prepared: Prepared) -> list[str]:
    lines = []
    for name, places in _places(prepared).items():
        line = f"{name}: {len(places)} images"
        if "grade" in prepared.groups:
            grades = Counter(prepared.groups["grade"][place] for place in places)
            line += f" ({', '.join(f'{count} {grade}' for grade, count in sorted(grades.items()))})"
        for kind in ("patient", "slide"):
            if kind in prepared.groups:
                line += f" of {_count(len({prepared.groups[kind][place] for place in places}), kind)}"
        bare = sum(prepared.ids[place] in prepared.unmasked for place in places)
        lines.append(line + (f"; {bare} without a mask, which can only be unlabelled training images" if bare else ""))
    return lines


def _sizes(prepared: Prepared) -> str:
    sizes = Counter(f"{width} x {height}" for height, width in prepared.native_sizes)
    line = "native sizes: " + ", ".join(f"{size} ({count})" for size, count in sizes.most_common())
    return line + (f"; cut into {len(prepared.images)} tiles" if prepared.tiles else "")


def _contents(prepared: Prepared) -> list[str]:
    """Shares of pixels and numbers of objects of the images that have a mask, at native size."""
    lines, everywhere = [], np.zeros(IGNORE + 1, np.int64)
    for name, places in _places(prepared).items():
        pixels = np.zeros(IGNORE + 1, np.int64)
        objects = []
        for image in (prepared.ids[place] for place in places):
            if image not in prepared.unmasked:
                pixels += np.bincount(prepared.native_classes(image).ravel(), minlength=IGNORE + 1)
                objects.append(np.count_nonzero(np.bincount(prepared.native(image).ravel())[1:]))
        everywhere += pixels
        if objects:
            lines.append(f"{name}: {_shares(prepared.classes, pixels)}, {sum(objects):,} objects, {min(objects)} to "
                         f"{max(objects)} an image{_ignored(pixels)}")
    for number, label in enumerate(prepared.classes):
        if not everywhere[number]:
            lines.append(f"class '{label}' is in no mask: it can neither be learned nor scored; is its value right?")
    return lines


def _shares(classes: Sequence[str], pixels: np.ndarray) -> str:
    known = max(int(pixels[:IGNORE].sum()), 1)
    shares = [f"{pixels[number] / known:.1%} of pixels are {classes[number]}" for number in range(1, len(classes))]
    return ", ".join(shares)


def _ignored(pixels: np.ndarray) -> str:
    return f"; {pixels[IGNORE] / pixels.sum():.1%} of pixels are to be ignored" if pixels[IGNORE] else ""


def _patients(prepared: Prepared) -> str:
    if "patient" not in prepared.groups:
        return "patients: not known"
    images = members(prepared)
    shared = shared_patients(images)
    test = [image for image in images if image.tests]
    if not test:
        return "patients: no test images are named; the split 'folds' makes some and keeps patients apart"
    both = sum(image.patient in shared for image in test)
    if not both:
        return f"patients: none of the {len(test)} test images comes from a patient who is also in training"
    patients = {image.patient for image in test}
    return (f"patients: {both} of the {len(test)} test images come from patients who are also in training "
            f"({len(shared)} of {len(patients)} test patients); the split 'patients' keeps them apart")


def _statistics(prepared: Prepared) -> list[str]:
    training = [prepared.ids[place] for place in _places(prepared).get("train", [])] or prepared.ids
    mean, deviation = prepared.statistics(prepared.rows_of(training))
    both = f"mean {_channels(mean)}, standard deviation {_channels(deviation)}"
    lines = [f"training images at {prepared.size} px: {both}"]
    published = load_dataset(prepared.dataset).published_statistics
    if published is not None:
        line = f"published statistics: mean {_channels(published[0])}, standard deviation {_channels(published[1])}"
        impossible = "; more than 0.5 is impossible for values in [0, 1]" if max(published[1]) > 0.5 else ""
        lines.append(line + impossible)
    return lines


def _duplicates(prepared: Prepared) -> str:
    same: dict[str, list[str]] = {}
    for name, digest in zip(prepared.ids, prepared.hashes, strict=True):
        same.setdefault(digest, []).append(name)
    groups = [" = ".join(names) for names in same.values() if len(names) > 1]
    return f"images with the same pixels: {_listed(groups)}" if groups else "no two images have the same pixels"


def _listed(words: Sequence[str], limit: int = 10) -> str:
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _channels(values: Iterable[float]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)})"
