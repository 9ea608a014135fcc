"""Make the committed split lists: nested, stratified, the same on every machine.

Chance is a sort by sha256 of a key with the image's id: no library's random numbers, which may change. In each
stratum (grade) the order of one fold gives all its lists: labelled lists are its beginning, at each ratio a longer
one, and the validation list is its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmark.data.prepared import Prepared

RATIOS = (5, 10, 20, 50)  # percent of the training images
VALIDATION = 20  # percent
FOLDS = 3
ORDERS = 50  # starting orders tried when patients are dealt to folds
PATIENT_WEIGHT = 5  # a patient weighs as 5 images in the balance: intervals resample patients, so folds need several

# arXiv 2604.09169, the only public id lists for this task: numbers of training images. Validation images are held
# out of training there, not used as unlabelled ones.
PUBLISHED: dict[str, dict[str, tuple[int, ...]]] = {
    "glas": {
        "10": (4, 17, 23, 28, 60, 74, 85),
        "20": (4, 9, 17, 20, 23, 28, 42, 52, 55, 60, 69, 70, 74, 85),
        "validation": (7, 27, 33, 37, 45, 54, 62, 63, 66, 71, 76, 82),
    },
    "crag": {
        "10": (7, 44, 54, 60, 74, 77, 81, 83, 99, 100, 116, 126, 146, 154, 157, 158),
        "20": (7, 17, 18, 34, 44, 50, 52, 54, 58, 60, 62, 65, 74, 77, 81, 83, 99, 100, 110, 114, 116, 126, 131, 137,
               138, 143, 146, 154, 157, 158, 159),
        "validation": (6, 8, 12, 40, 69, 82, 90, 97, 104, 105, 106, 119, 122, 124, 130, 149, 150, 152, 155, 162),
    },
}


@dataclass(frozen=True)
class Member:
    """An image as the splits see it."""

    id: str
    set: str
    stratum: str
    patient: str


def members(prepared: Prepared) -> list[Member]:
    """All images in order. Without grades there is one stratum; without patients every image is its own."""
    blank = ("",) * len(prepared.ids)
    grades, patients = prepared.groups.get("grade", blank), prepared.groups.get("patient", prepared.ids)
    return [Member(*row) for row in zip(prepared.ids, prepared.groups["set"], grades, patients, strict=True)]


def make_all(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """split name -> the content of its file, for every split this data set has."""
    images = members(prepared)
    made: dict[str, tuple[str, list[dict[str, Any]]]] = {"official": (
        "The released training and test images. Each fold is another draw of the labelled and validation lists.",
        official(prepared.name, images),
    )}
    if shared_patients(images):
        made["patients"] = (
            "Cross-validation over all images: no patient is in both training and test. Folds are balanced in images, "
            "grades and patients; the labelled and validation lists are drawn from the training images.",
            patients(prepared.name, images),
        )
    lists = PUBLISHED.get(prepared.name, {})
    if lists and all(f"train_{number}" in prepared.ids for numbers in lists.values() for number in numbers):
        made["published"] = (
            "The only id lists published for this task (arXiv 2604.09169). Validation images are held out of training.",
            [published(images, lists)],
        )
    return {
        name: {
            "dataset": prepared.name, "split": name, "about": about,
            "made_by": f"python -m benchmark data split {prepared.name} --write",
            "dataset_fingerprint": prepared.fingerprint, "validation_held_out": name == "published", "folds": folds,
        }
        for name, (about, folds) in made.items()
    }


def shared_patients(images: Sequence[Member]) -> set[str]:
    """Patients with images both in the training set and in a test set."""
    training = {image.patient for image in images if image.set == "train"}
    return training & {image.patient for image in images if image.set != "train"}


def official(dataset: str, images: Sequence[Member]) -> list[dict[str, Any]]:
    """FOLDS draws on the released sets."""
    train = [image for image in images if image.set == "train"]
    test = [image.id for image in images if image.set != "train"]
    return [_fold(train, test, f"{dataset}/official/{number}") for number in range(FOLDS)]


def patients(dataset: str, images: Sequence[Member]) -> list[dict[str, Any]]:
    """FOLDS folds, disjoint in patients; each image is tested once."""
    home = deal(images, FOLDS, f"{dataset}/patients")
    made = []
    for number in range(FOLDS):
        train = [image for image in images if home[image.patient] != number]
        test = [image.id for image in images if home[image.patient] == number]
        made.append(_fold(train, test, f"{dataset}/patients/{number}"))
    return made


def published(images: Sequence[Member], lists: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The one published fold."""
    named = {key: [f"train_{number}" for number in numbers] for key, numbers in lists.items()}
    return {
        "train": [image.id for image in images if image.set == "train"],
        "validation": named.pop("validation"),
        "labelled": named,
        "test": [image.id for image in images if image.set != "train"],
    }


def _fold(train: Sequence[Member], test: list[str], key: str) -> dict[str, Any]:
    strata: dict[str, list[str]] = {}
    for image in train:
        strata.setdefault(image.stratum, []).append(image.id)
    orders = {name: shuffled(ids, key) for name, ids in sorted(strata.items())}
    sizes = {name: len(ids) for name, ids in orders.items()}
    place = {image.id: number for number, image in enumerate(train)}
    counts = dict.fromkeys(sizes, 0)
    labelled = {}
    for ratio in RATIOS:
        counts = apportion(percent(ratio, len(train)), sizes, counts)
        chosen = [name for stratum, ids in orders.items() for name in ids[:counts[stratum]]]
        labelled[str(ratio)] = sorted(chosen, key=place.__getitem__)
    held = apportion(percent(VALIDATION, len(train)), sizes)
    chosen = [name for stratum, ids in orders.items() for name in ids[len(ids) - held[stratum]:]]
    fold = {
        "train": [image.id for image in train], "validation": sorted(chosen, key=place.__getitem__),
        "labelled": labelled, "test": test,
    }
    _check(fold)
    return fold


def _check(fold: Mapping[str, Any]) -> None:
    lists = [set(fold["labelled"][str(ratio)]) for ratio in RATIOS]
    assert all(small <= large for small, large in pairwise(lists)), "labelled lists must be nested"
    honest = [names for ratio, names in zip(RATIOS, lists, strict=True) if ratio <= VALIDATION]
    assert not set(fold["validation"]) & set().union(*honest), "validation images must not be labelled ones"


def percent(ratio: int, total: int) -> int:
    """`ratio` percent of `total`, halves up, at least one."""
    return max(1, (2 * ratio * total + 100) // 200)


def apportion(total: int, sizes: Mapping[str, int], least: Mapping[str, int] | None = None) -> dict[str, int]:
    """Seats by largest remainder: `total` over strata in proportion to `sizes`, none below `least`.

    One seat at a time to the stratum furthest below its share (whole numbers: share minus seats, times the sum); from
    zero that is the largest-remainder rule, and from a smaller list's seats it keeps lists nested."""
    whole = sum(sizes.values())
    seats = dict(least) if least else dict.fromkeys(sizes, 0)
    while sum(seats.values()) < total:
        open_ = [name for name in sorted(sizes) if seats[name] < sizes[name]]
        neediest = max(open_, key=lambda name: total * sizes[name] - seats[name] * whole)
        seats[neediest] += 1
    return seats


def shuffled(names: Iterable[str], key: str) -> list[str]:
    """The names in the order of sha256(key/name)."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{key}/{name}".encode()).digest())


def deal(images: Sequence[Member], folds: int, key: str) -> dict[str, int]:
    """patient -> fold, with counts as equal as can be: images in all, images in each stratum, patients.

    From each of ORDERS orders: put each patient where the sum of squared counts grows least, then move or swap
    patients while that helps. The best result is kept, the first of equals."""
    strata = sorted({image.stratum for image in images})
    weight: dict[str, list[int]] = {}
    for image in images:
        counts = weight.setdefault(image.patient, [PATIENT_WEIGHT, 0] + [0] * len(strata))
        counts[1] += 1
        counts[2 + strata.index(image.stratum)] += 1
    best: tuple[int, dict[str, int]] | None = None
    for attempt in range(ORDERS):
        home: dict[str, int] = {}
        for patient in shuffled(weight, f"{key}/{attempt}"):
            costs = [_cost({**home, patient: fold}, weight, folds) for fold in range(folds)]
            home[patient] = costs.index(min(costs))
        cost = _improve(home, weight, folds)
        if best is None or cost < best[0]:
            best = cost, home
    assert best is not None
    return best[1]


def _cost(home: Mapping[str, int], weight: Mapping[str, Sequence[int]], folds: int) -> int:
    columns = len(next(iter(weight.values())))
    sums = [[0] * columns for _ in range(folds)]
    for patient, fold in home.items():
        for column, count in enumerate(weight[patient]):
            sums[fold][column] += count
    return sum(value * value for row in sums for value in row)


def _improve(home: dict[str, int], weight: Mapping[str, Sequence[int]], folds: int) -> int:
    cost = _cost(home, weight, folds)
    patients_ = sorted(home)
    while True:
        trials = [{patient: fold} for patient in patients_ for fold in range(folds)]
        trials += [{a: home[b], b: home[a]} for a in patients_ for b in patients_ if a < b and home[a] != home[b]]
        found, change = min(((_cost({**home, **trial}, weight, folds), place) for place, trial in enumerate(trials)))
        if found >= cost:
            return cost
        cost = found
        home.update(trials[change])
