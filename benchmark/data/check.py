"""What a data set holds, and what looks wrong: classes, masks, patients, images that a split learns from and tests on.

`check_dataset` finds it, as JSON has it; `describe` puts it into lines for a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from benchmark.data.dataset import IGNORE
from benchmark.data.groups import BLANK
from benchmark.data.make_splits import image_infos
from benchmark.data.near_duplicates import MOST, SIDE, near_duplicates
from benchmark.data.splits import available, load_split
from benchmark.data.store import PreparedData

RELEASED = ("official", "published", "as released")  # splits that others made, some with patients in both
LIMIT = 10  # of a list that may be long
Facts = dict[str, Any]
Fold = tuple[str, int, set[str], set[str]]  # split, number, ids that it learns from, ids that it tests on


def check_dataset(prepared: PreparedData) -> Facts:
    """Everything that `data check` prints.

    Shares are fractions of the pixels whose truth is known, at native size."""
    places: dict[str, list[str]] = {}
    for name, chosen in zip(prepared.ids, prepared.groups["set"], strict=True):
        places.setdefault(chosen, []).append(name)
    mean, deviation = prepared.statistics(prepared.rows_of(places.get("train", prepared.ids)))
    published = prepared.dataset.published_statistics
    same: dict[str, list[str]] = {}
    for name, digest in zip(prepared.ids, prepared.hashes, strict=True):
        same.setdefault(digest, []).append(name)
    duplicates = [names for names in same.values() if len(names) > 1]
    alike = _near_duplicates(prepared)
    folds = _folds(prepared)
    return {
        "dataset": prepared.name, "size": prepared.size, "images": len(prepared.ids),
        "fingerprint": prepared.fingerprint, "classes": list(prepared.classes),
        "sets": {name: _set(prepared, ids) for name, ids in places.items()},
        "native_sizes": dict(Counter(f"{width} x {height}" for height, width in prepared.native_sizes).most_common()),
        "tiles": len(prepared.images) if prepared.tiles else None,
        "patients": _patients(prepared, folds),
        "statistics": {"mean": mean, "standard_deviation": deviation},
        "published_statistics": published and {"mean": published[0], "standard_deviation": published[1]},
        "duplicates": duplicates,
        "near_duplicates": alike,
        "splits": sorted({split for split, *_ in folds}),
        "leaks": [
            {"split": split, "folds": numbers, "training": training, "test": test, **found}
            for pair, found in [*((pair, {"same_pixels": True}) for names in duplicates
                                  for pair in combinations(names, 2)),
                                *((each["images"], each | {"same_pixels": False}) for each in alike or [])]
            for (split, training, test), numbers in _crossings(pair, folds).items()
        ],
    }


def has_errors(facts: Facts) -> bool:
    """Whether something is wrong for certain: a line of `describe` says so."""
    return any(line.startswith("WRONG") for line in describe(facts))


def _set(prepared: PreparedData, ids: Sequence[str]) -> Facts:
    """Counts of one set; images without a mask count for nothing but their number."""
    from scipy import ndimage

    masked = [name for name in ids if name not in prepared.unmasked]
    counts = np.zeros((len(masked), IGNORE + 1), np.int64)
    objects, merged = [], 0
    for row, name in enumerate(masked):
        counts[row] = np.bincount(prepared.native_classes(name).ravel(), minlength=IGNORE + 1)
        native = prepared.native(name)
        objects.append(int(np.count_nonzero(np.bincount(native.ravel())[1:])))
        merged += prepared.dataset.instances and objects[-1] == 1 and ndimage.label(native, np.ones((3, 3)))[1] > 1
    held, ignored = counts[:, : len(prepared.classes)], counts[:, IGNORE]
    known, whole = max(1, int(held.sum())), held.sum(1)
    found: Facts = {
        "images": len(ids), "unlabelled": len(ids) - len(masked), "ignored": int(ignored.sum()) / max(1, counts.sum()),
        "background_and_ignored": int(np.count_nonzero((held[:, 1:].sum(1) == 0) & (ignored > 0))),
        "merged": int(merged),
        "classes": {
            name: {"pixels": int(column.sum()) / known, "images": int(np.count_nonzero(column)),
                   "filled": int(np.count_nonzero((column == whole) & (whole > 0)))}
            for name, column in zip(prepared.classes, held.T, strict=True)
        },
        "objects": {"all": sum(objects), "fewest": min(objects, default=0), "most": max(objects, default=0)},
    }
    groups = {key: [prepared.groups[key][prepared.position(name)] for name in ids] for key in prepared.groups}
    if "grade" in groups:
        found["grades"] = dict(sorted(Counter(groups["grade"]).items()))
    for kind in ("patient", "slide"):
        if kind in groups:  # a slide's number counts within its patient
            named = zip(groups[kind], groups.get("patient", groups[kind]), strict=True)
            found[f"{kind}s"] = len({pair for pair in named if pair[0].strip().lower() not in BLANK})
    return found


def _patients(prepared: PreparedData, folds: Sequence[Fold]) -> Facts | None:
    """Of each split: test images, and those of a patient (or, without patients, slide) who is also in training."""
    if not {"patient", "slide"} & prepared.groups.keys():
        return None
    of = {image.id: image.patient for image in image_infos(prepared)}
    found: Facts = {}
    for split, _, training, test in folds:
        learnt = {of.get(name) for name in training}
        known = found.setdefault(split, {"test_images": set(), "shared_images": set(), "shared": set()})
        known["test_images"] |= test & of.keys()
        known["shared_images"] |= {name for name in test & of.keys() if of[name] in learnt}
        known["shared"] |= {of[name] for name in known["shared_images"]}
    return {split: {key: len(names) for key, names in known.items()} for split, known in found.items()}


def _near_duplicates(prepared: PreparedData) -> list[Facts] | None:
    """Pairs that look alike and do not have the same pixels; None where they are not looked for."""
    if len(prepared.ids) > MOST or prepared.size < SIDE:
        return None
    return [
        {"images": [prepared.ids[pair.first], prepared.ids[pair.second]], "position": pair.position,
         "correlation": pair.correlation}
        for pair in near_duplicates(prepared.picture(name)[0] for name in prepared.ids)
        if prepared.hashes[pair.first] != prepared.hashes[pair.second]
    ]


def _folds(prepared: PreparedData) -> list[Fold]:
    """Every fold of every split that is made; where there is none, the sets as they are."""
    found: list[Fold] = []
    for offer in available(prepared.dataset):
        for fold in range(offer.folds):
            lists = load_split(prepared.dataset, offer.split, 100, fold)
            found.append((offer.split, fold, {*lists.labelled, *lists.unlabelled}, {*lists.test}))
    if not found:
        training = {image.id for image in image_infos(prepared) if not image.tests}
        found.append(("as released", 0, training, {*prepared.ids} - training))
    return found


def _crossings(pair: Sequence[str], folds: Sequence[Fold]) -> dict[tuple[str, str, str], list[int]]:
    """(split, training image, test image) -> the folds in which the two are on both sides."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for split, number, training, test in folds:
        for one, other in (pair, pair[::-1]):
            if one in training and other in test:
                found.setdefault((split, one, other), []).append(number)
    return found


def describe(facts: Facts) -> list[str]:
    """The lines of `data check`."""
    sets, classes = facts["sets"], facts["classes"]
    sizes = ", ".join(f"{size} ({count})" for size, count in facts["native_sizes"].items())
    same = [" = ".join(names) for names in facts["duplicates"]]
    alike = [" ~ ".join(pair["images"]) + _looks(pair) for pair in facts["near_duplicates"] or []]
    lines = [
        f"{facts['dataset']}: {facts['images']} images, pixels {facts['fingerprint'][:12]}",
        *(_images(name, found) for name, found in sets.items()),
        f"native sizes: {sizes}" + (f"; cut into {facts['tiles']:,} tiles" if facts["tiles"] else ""),
        *(line for name, found in sets.items() for line in _masks(name, found, classes)),
        *_one_class(facts), *_absent(facts), *_patient_lines(facts),
        f"training images at {facts['size']} px: {_moments(facts['statistics'])}",
    ]
    if published := facts["published_statistics"]:
        impossible = "; more than 0.5 is impossible for values in [0, 1]"
        lines.append(f"published statistics: {_moments(published)}"
                     + impossible * (max(published["standard_deviation"]) > 0.5))
    lines.append(f"images with the same pixels: {_listed(same)}" if same else "no two images have the same pixels")
    if facts["near_duplicates"] is None:
        lines.append(f"images that look alike: not looked for among more than {MOST:,}, or below {SIDE} px")
    else:
        lines.append(f"images that look alike: {_listed(alike)}" if alike else
                     "no two images look alike, turned or mirrored")
    return lines + _leaks(facts)


def _images(name: str, found: Facts) -> str:
    line = f"{name}: {found['images']} images"
    if "grades" in found:
        line += f" ({', '.join(f'{count} {grade}' for grade, count in found['grades'].items())})"
    of = [_count(found[f"{kind}s"], kind) for kind in ("patient", "slide") if f"{kind}s" in found]
    line += f" of {' and '.join(of)}" if of else ""
    if found["unlabelled"]:
        means = "can only be unlabelled training images" if name == "train" else "cannot be scored"
        line += f"; {found['unlabelled']} without a mask, which {means}"
    return line


def _masks(name: str, found: Facts, classes: Sequence[str]) -> list[str]:
    """What the masks of a set hold, and what is odd about them."""
    labelled = found["images"] - found["unlabelled"]
    if not labelled:
        return []
    words = []
    for label in classes[1:]:
        held = found["classes"][label]
        words.append(f"{held['pixels']:.1%} of pixels are {label}"
                     + f" (in {_count(held['images'], 'image')})" * (len(classes) > 2))
    objects = found["objects"]
    line = (f"{name}: {', '.join(words)}, {objects['all']:,} objects, {objects['fewest']} to {objects['most']} an "
            "image")
    lines = [line + (f"; {found['ignored']:.1%} of pixels are to be ignored" if found["ignored"] else "")]
    filled = [f"{found['classes'][label]['filled']} are '{label}' all over" for label in classes
              if found["classes"][label]["filled"]]
    if filled:
        lines.append(f"{name}: of {labelled} masks, {', '.join(filled)}")
    if found["background_and_ignored"]:
        lines.append(f"{name}: {found['background_and_ignored']} of {labelled} masks hold '{classes[0]}' and ignored "
                     "pixels alone; if the value that is ignored means a class in them, take a threshold, {from: 1}")
    if found["merged"] > labelled / 2:
        lines.append(f"{name}: {found['merged']} of {labelled} masks have one number for all of their objects: the "
                     "objects' own numbers are gone, and scores of single objects mean nothing")
    return lines


def _one_class(facts: Facts) -> list[str]:
    masks = sum(found["images"] - found["unlabelled"] for found in facts["sets"].values())
    return [
        f"WRONG: every pixel of every mask is '{label}': nothing can be learned; are the values of the classes right?"
        for label in facts["classes"]
        if 0 < masks == sum(found["classes"][label]["filled"] for found in facts["sets"].values())
    ]


def _absent(facts: Facts) -> list[str]:
    """Classes that occur nowhere, or not where they would be learned or scored."""
    lines, sets = [], facts["sets"]
    for label in facts["classes"]:
        where = [name for name, found in sets.items() if found["classes"][label]["images"]]
        if not where:
            hint = "is its value right, or is it the value that is ignored?"
            lines.append(f"class '{label}' is in no mask: it can neither be learned nor scored; {hint}")
        elif "train" in sets and "train" not in where:
            lines.append(f"class '{label}' is in no training mask, only in {', '.join(where)}: it cannot be learned")
        elif where == ["train"] and len(sets) > 1:
            lines.append(f"class '{label}' is in training masks only: no test image shows whether it was learned")
    return lines


def _patient_lines(facts: Facts) -> list[str]:
    if facts["patients"] is None:
        return ["patients: not known"]
    lines = []
    for split, found in facts["patients"].items():
        if not found["test_images"]:
            lines.append("patients: no test images are named; the split 'folds' makes some and keeps patients apart")
        elif not found["shared"]:
            lines.append(f"patients, split {split}: none of the {found['test_images']} test images is of a patient who "
                         "is also in training")
        else:
            released = split in RELEASED
            advice = "the split 'patients' keeps them apart" if released else "make the lists again with `data split`"
            lines.append(f"{'' if released else 'WRONG: '}patients, split {split}: {found['shared_images']} of the "
                         f"{found['test_images']} test images come from patients who are also in training "
                         f"({_count(found['shared'], 'patient')}); {advice}")
    return lines


def _leaks(facts: Facts) -> list[str]:
    if not facts["leaks"]:
        return [f"no image that is learned from is also tested on (splits: {', '.join(facts['splits'])})"]
    lines = []
    for leak in facts["leaks"][:LIMIT]:
        numbers = ", ".join(map(str, leak["folds"]))
        where = f"split {leak['split']}, fold{'s' if len(leak['folds']) > 1 else ''} {numbers}"
        if leak["same_pixels"]:
            lines.append(f"WRONG: {where}: the training image {leak['training']} is the test image {leak['test']}; "
                         "leave one of them out")
        else:
            lines.append(f"{where}: the training image {leak['training']} looks like the test image "
                         f"{leak['test']}{_looks(leak)}; look at both: --ids of `data preview`")
    more = len(facts["leaks"]) - LIMIT
    return lines + [f"and {more} more pairs across training and test (--json has all)"] * (more > 0)


def _moments(statistics: Facts) -> str:
    return ", ".join(f"{key.replace('_', ' ')} ({', '.join(f'{value:.4f}' for value in values)})"
                     for key, values in statistics.items())


def _looks(pair: Facts) -> str:
    position = f"{pair['position']}, " if pair["position"] else ""
    return f" ({position}correlation {pair['correlation']:.2f})"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:LIMIT]) + (f" and {len(words) - LIMIT} more" if len(words) > LIMIT else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
