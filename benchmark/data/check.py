"""What a data set holds, and what looks wrong: classes, masks, patients, images that a split learns from and tests on.

`check_dataset` finds it, as JSON has it; `describe` puts it into lines for a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from benchmark.data.dataset import IGNORE
from benchmark.data.fold_lists import BLANK, LEARNT_FROM, TRAIN, patients
from benchmark.data.near_duplicates import MOST, SIDE, near_duplicates
from benchmark.data.splits import load_split, read_split, split_names
from benchmark.data.store import PreparedData
from benchmark.errors import listed

AS_THEY_ARE = "as released"
RELEASED = ("official", "published", AS_THEY_ARE)  # splits that others made, some with patients in both
LIMIT = 10  # of a list that may be long
Facts = dict[str, Any]
Fold = tuple[str, int, set[str], set[str]]  # split, number, ids that it learns from, ids that it tests on


def check_dataset(prepared: PreparedData) -> Facts:
    """Everything that `data check` prints.

    Shares are fractions of the pixels whose truth is known, at native size."""
    sets: dict[str, list[str]] = {}
    for name, chosen in zip(prepared.ids, prepared.groups["set"], strict=True):
        sets.setdefault(chosen, []).append(name)
    same: dict[str, list[str]] = {}
    for name, digest in zip(prepared.ids, prepared.hashes, strict=True):
        same.setdefault(digest, []).append(name)
    duplicates = [names for names in same.values() if len(names) > 1]
    alike: list[Facts] | None = None
    if len(prepared.ids) <= MOST and prepared.size >= SIDE:
        alike = [{"images": [prepared.ids[first], prepared.ids[second]], "position": position, "correlation": value}
                 for first, second, position, value in near_duplicates(prepared.picture(id)[0] for id in prepared.ids)
                 if prepared.hashes[first] != prepared.hashes[second]]
    patient = dict(zip(prepared.ids, patients(prepared.ids, prepared.groups), strict=True))
    folds = _folds(prepared)
    published = prepared.dataset.published_statistics
    return {
        "dataset": prepared.name, "size": prepared.size, "images": len(prepared.ids),
        "fingerprint": prepared.fingerprint, "classes": list(prepared.classes),
        "sets": {name: _set(prepared, ids, patient) for name, ids in sets.items()},
        "native_sizes": dict(Counter(f"{width} x {height}" for height, width in prepared.native_sizes).most_common()),
        "tiles": len(prepared.images) if prepared.dataset.tile else None,
        "patients": _patients(patient, folds) if {"patient", "slide"} & prepared.groups.keys() else None,
        "statistics": _moments(prepared.statistics(prepared.rows_of(sets.get(TRAIN, prepared.ids)))),
        "published_statistics": published and _moments(published),
        "duplicates": duplicates, "near_duplicates": alike, "splits": sorted({split for split, *_ in folds}),
        "leaks": [
            *(leak | {"same_pixels": True} for names in duplicates for pair in combinations(names, 2)
              for leak in _leaks(pair, folds)),
            *(leak | each | {"same_pixels": False} for each in alike or () for leak in _leaks(each["images"], folds)),
        ],
    }


def has_errors(facts: Facts) -> bool:
    """Whether something is wrong for certain: a line of `describe` says so."""
    return any(line.startswith("WRONG") for line in describe(facts))


def _set(prepared: PreparedData, ids: Sequence[str], patient: Mapping[str, str]) -> Facts:
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
    groups = {key: [values[prepared.position(name)] for name in ids] for key, values in prepared.groups.items()}
    if "grade" in groups:
        found["grades"] = dict(sorted(Counter(groups["grade"]).items()))
    for kind in ("patient", "slide"):
        if kind in groups:  # a slide's number counts within its patient
            named = zip(groups[kind], ids, strict=True)
            pairs = {(value.strip(), patient[name]) for value, name in named if value.strip().lower() not in BLANK}
            found[f"{kind}s"] = len(pairs)
    if {"grade", "patient"} <= groups.keys():
        of = {(grade, patient[name]) for grade, name in zip(groups["grade"], ids, strict=True)}
        found["patients_by_grade"] = dict(sorted(Counter(grade for grade, _ in of).items()))
    return found


def _folds(prepared: PreparedData) -> list[Fold]:
    """Every fold of every split that is made; where there is none, the sets as they are."""
    found: list[Fold] = []
    for split in split_names(prepared.dataset):
        for fold in range(len(read_split(prepared.dataset, split)["folds"])):
            lists = load_split(prepared.dataset, split, 100, fold)
            found.append((split, fold, {*lists.labelled, *lists.unlabelled, *lists.validation}, {*lists.test}))
    sets = zip(prepared.ids, prepared.groups["set"], strict=True)
    training = {name for name, chosen in sets if chosen in LEARNT_FROM}
    return found or [(AS_THEY_ARE, 0, training, {*prepared.ids} - training)]


def _patients(patient: Mapping[str, str], folds: Sequence[Fold]) -> Facts:
    """Of each split: test images, and those of a patient (or, without patients, slide) who is also in training."""
    found: Facts = {}
    for split, _, training, test in folds:
        learnt, tested = {patient.get(name) for name in training}, test & patient.keys()
        known = found.setdefault(split, {"test_images": set(), "shared_images": set(), "shared": set()})
        known["test_images"] |= tested
        known["shared_images"] |= {name for name in tested if patient[name] in learnt}
        known["shared"] |= {patient[name] for name in known["shared_images"]}
    return {split: {key: len(names) for key, names in known.items()} for split, known in found.items()}


def _leaks(pair: Sequence[str], folds: Sequence[Fold]) -> list[Facts]:
    """Where a split learns from one of the two and tests on the other, with the folds that do."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for split, number, training, test in folds:
        for one, other in (pair, pair[::-1]):
            if one in training and other in test:
                found.setdefault((split, one, other), []).append(number)
    return [{"split": split, "folds": numbers, "training": one, "test": other}
            for (split, one, other), numbers in found.items()]


def _moments(statistics: Sequence[Sequence[float]]) -> Facts:
    return {"mean": statistics[0], "standard_deviation": statistics[1]}


def describe(facts: Facts) -> list[str]:
    """The lines of `data check`."""
    sets = facts["sets"]
    sizes = listed([f"{size} ({count})" for size, count in facts["native_sizes"].items()], LIMIT)
    lines = [
        f"{facts['dataset']}: {facts['images']} images, pixels {facts['fingerprint'][:12]}",
        *(_images(name, found) for name, found in sets.items()),
        f"native sizes: {sizes}" + (f"; cut into {facts['tiles']:,} tiles" if facts["tiles"] else ""),
        *(line for name, found in sets.items() for line in _masks(name, found, facts["classes"])),
        *_classes(facts), *_patient_lines(facts),
    ]
    for what, statistics in ((f"training images at {facts['size']} px", facts["statistics"]),
                             ("published statistics", facts["published_statistics"])):
        if statistics:
            values = (f"{key.replace('_', ' ')} ({', '.join(f'{value:.4f}' for value in channels)})"
                      for key, channels in statistics.items())
            impossible = "; more than 0.5 is impossible for values in [0, 1]"
            lines.append(f"{what}: {', '.join(values)}" + impossible * (max(statistics["standard_deviation"]) > 0.5))
    same = listed([" = ".join(names) for names in facts["duplicates"]], LIMIT)
    lines.append(f"images with the same pixels: {same}" if same else "no two images have the same pixels")
    if facts["near_duplicates"] is None:
        lines.append(f"images that look alike: not looked for among more than {MOST:,}, or below {SIDE} px")
    else:
        alike = [" ~ ".join(pair["images"]) + _looks(pair) for pair in facts["near_duplicates"]]
        lines.append(f"images that look alike: {listed(alike, LIMIT)}" if alike else
                     "no two images look alike, turned or mirrored")
    return lines + _leak_lines(facts)


def _images(name: str, found: Facts) -> str:
    line = f"{name}: {found['images']} images"
    if "grades" in found:
        line += f" ({', '.join(f'{count} {grade}' for grade, count in found['grades'].items())})"
    of = [_count(found[f"{kind}s"], kind) for kind in ("patient", "slide") if f"{kind}s" in found]
    line += f" of {' and '.join(of)}" if of else ""
    if len(by_grade := found.get("patients_by_grade", {})) > 1:
        line += f" (patients: {', '.join(f'{count} {grade}' for grade, count in by_grade.items())})"
    if found["unlabelled"]:
        means = "can only be unlabelled training images" if name == TRAIN else "cannot be scored"
        line += f"; {found['unlabelled']} without a mask, which {means}"
    return line


def _masks(name: str, found: Facts, classes: Sequence[str]) -> list[str]:
    """What the masks of a set hold, and what is odd about them."""
    masks, objects = found["images"] - found["unlabelled"], found["objects"]
    if not masks:
        return []
    words = [f"{found['classes'][label]['pixels']:.1%} of pixels are {label}"
             + f" (in {_count(found['classes'][label]['images'], 'image')})" * (len(classes) > 2)
             for label in classes[1:]]
    words.append(f"{objects['all']:,} objects, {objects['fewest']} to {objects['most']} an image")
    lines = [f"{name}: {', '.join(words)}"
             + (f"; {found['ignored']:.1%} of pixels are to be ignored" if found["ignored"] else "")]
    filled = [f"{found['classes'][label]['filled']} are '{label}' all over" for label in classes
              if found["classes"][label]["filled"]]
    if filled:
        lines.append(f"{name}: of {masks} masks, {', '.join(filled)}")
    if found["background_and_ignored"]:
        lines.append(f"{name}: {found['background_and_ignored']} of {masks} masks hold '{classes[0]}' and ignored "
                     "pixels alone; if the value that is ignored means a class in them, take a threshold, {from: 1}")
    if found["merged"] > masks / 2:
        lines.append(f"{name}: {found['merged']} of {masks} masks have one number for all of their objects: the "
                     "objects' own numbers are gone, and scores of single objects mean nothing")
    return lines


def _classes(facts: Facts) -> list[str]:
    """Classes that are everywhere, occur nowhere, or not where they would be learned or scored."""
    lines, sets = [], facts["sets"]
    masks = sum(found["images"] - found["unlabelled"] for found in sets.values())
    for label in facts["classes"]:
        where = [name for name, found in sets.items() if found["classes"][label]["images"]]
        if 0 < masks == sum(found["classes"][label]["filled"] for found in sets.values()):
            lines.append(f"WRONG: every pixel of every mask is '{label}': nothing can be learned; are the values of "
                         "the classes right?")
        if not where:
            lines.append(f"class '{label}' is in no mask: it can neither be learned nor scored; is its value right, "
                         "or is it the value that is ignored?")
        elif TRAIN in sets and TRAIN not in where:
            lines.append(f"class '{label}' is in no training mask, only in {', '.join(where)}: it cannot be learned")
        elif where == [TRAIN] and len(sets) > 1:
            lines.append(f"class '{label}' is in training masks only: no test image shows whether it was learned")
    return lines


def _patient_lines(facts: Facts) -> list[str]:
    if facts["patients"] is None:
        return ["patients: not known, so training and test images may share them"]
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


def _leak_lines(facts: Facts) -> list[str]:
    if facts["splits"] == [AS_THEY_ARE] and facts["sets"].keys() <= {*LEARNT_FROM}:
        return ["no image is for tests yet: make lists with `data split`"]
    if not facts["leaks"]:
        return [f"no image that is learned from is also tested on (splits: {', '.join(facts['splits'])})"]
    lines = []
    for leak in facts["leaks"][:LIMIT]:
        where = f"split {leak['split']}, fold{'s' * (len(leak['folds']) > 1)} {', '.join(map(str, leak['folds']))}"
        if leak["same_pixels"]:
            lines.append(f"WRONG: {where}: the training image {leak['training']} is the test image {leak['test']}; "
                         "leave one of them out")
        else:
            lines.append(f"{where}: the training image {leak['training']} looks like the test image {leak['test']}"
                         f"{_looks(leak)}; look at both: --ids of `data preview`")
    more = len(facts["leaks"]) - LIMIT
    return lines + [f"and {more} more pairs across training and test (--json has all)"] * (more > 0)


def _looks(pair: Facts) -> str:
    position = f"{pair['position']}, " if pair["position"] else ""
    return f" ({position}correlation {pair['correlation']:.2f})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
