"""The lists of one fold, labelled ones, nested and stratified, and validation, and which fold of a cross-validation
each patient is in: the same on every machine.

Chance is a sort by sha256 of a key with the image's id: no library's random numbers, which may change. In each
stratum (grade) the order of one fold gives all its lists: labelled lists are its beginning, at each ratio a longer
one, and the validation list is its end. Images without a mask are in no stratum, and so in none of these lists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmark.errors import UserError

TRAIN, VALIDATION = "train", "validation"
LEARNT_FROM = (TRAIN, VALIDATION)  # sets; every other is for testing
BLANK = ("", "-", "?", "na", "n/a", "nan", "none", "null")  # of a patient or slide: not known
RATIOS = (5, 10, 20, 50)  # percent of the training images that have a mask; lists at others lie between these
HELD = 20  # percent of them, for validation
ORDERS = 50  # of patients, from which balanced folds are looked for
SWAPPED = 2000  # patients up to whom all pairs are tried: a table of pairs takes 32 MB there
PATIENT_WEIGHT = 5  # a patient weighs as 5 images in the balance: intervals resample patients, so folds need several

Strata = Mapping[str, Sequence[str]]  # stratum -> the images that have a mask


class ImageInfo(NamedTuple):
    """An image as the splits see it."""

    id: str
    set: str
    stratum: str
    patient: str  # who must not be both in training and test: a patient, or a slide
    masked: bool = True


def patients(ids: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Of each image who must not be both in training and test: its patient; without one, its slide's only patient or
    the slide; without either, the image itself. Blanks, NA and the like are no names."""
    rows = zip(groups.get("patient") or [""] * len(ids), groups.get("slide") or [""] * len(ids), strict=True)
    known = [tuple("" if name.strip().lower() in BLANK else name.strip() for name in row) for row in rows]
    of_slide: dict[str, set[str]] = {}
    for patient, slide in known:
        if patient and slide:
            of_slide.setdefault(slide, set()).add(patient)
    found = []
    for name, (patient, slide) in zip(ids, known, strict=True):
        others = of_slide.get(slide, set())
        found.append(patient or (next(iter(others)) if len(others) == 1 else slide and f"slide {slide}") or name)
    return found


class FoldOrder:
    """The order in which the masked training images of a fold get labels, stratum by stratum."""

    def __init__(self, train: Sequence[str], strata: Strata, key: str) -> None:
        self._place = {name: number for number, name in enumerate(train)}
        self._orders = {stratum: shuffled((name for name in strata[stratum] if name in self._place), key)
                        for stratum in sorted(strata)}
        self._sizes = {stratum: len(ids) for stratum, ids in self._orders.items()}
        self.total = sum(self._sizes.values())

    def labelled(self, ratio: int) -> list[str]:
        """The labelled list at `ratio` percent; a list at a lower ratio is part of it."""
        seats = self._seats(ratio)
        return self._sorted(name for stratum, ids in self._orders.items() for name in ids[: seats[stratum]])

    def validation(self) -> list[str]:
        """The images that are labelled last, HELD percent of all, none of those in its labelled list."""
        room = {stratum: self._sizes[stratum] - seats for stratum, seats in self._seats(HELD).items()}
        held = apportion(min(percent(HELD, self.total), sum(room.values())), self._sizes, most=room)
        return self._sorted(name for stratum, ids in self._orders.items() for name in ids[len(ids) - held[stratum] :])

    def _seats(self, ratio: int) -> dict[str, int]:
        """How many of each stratum are labelled. Between two of RATIOS one percent after the other is added."""
        seats, last = dict.fromkeys(self._sizes, 0), 0
        for step in (*RATIOS, 100):
            most = apportion(percent(step, self.total), self._sizes, seats)
            if step > ratio:
                for between in range(last + 1, ratio + 1):
                    seats = apportion(percent(between, self.total), self._sizes, seats, most)
                return seats
            seats, last = most, step
        return seats

    def _sorted(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=self._place.__getitem__)


def make_fold(
    train: Sequence[str], test: list[str], strata: Strata, key: str, validation: list[str] | None = None,
    labelled: Mapping[int, list[str]] | None = None,
) -> dict[str, Any]:
    """One fold's lists; validation images and labelled ones, by ratio, are drawn here where they are not given."""
    order = FoldOrder(train, strata, key)
    if not order.total or not test:
        lack = "training image with a mask" if not order.total else "test image"
        raise UserError(f"{key}: no {lack} is left; a split needs some")
    lists = labelled or {ratio: order.labelled(ratio) for ratio in RATIOS}
    if validation is None:
        taken = set().union(*lists.values()) if labelled else set()
        validation = [name for name in order.validation() if name not in taken]
    masked = set().union(*strata.values())
    unmasked = [name for name in train if name not in masked]
    return {
        "train": list(train), "validation": validation,
        "labelled": {str(ratio): names for ratio, names in lists.items()}, "test": test,
    } | ({"unmasked": unmasked} if unmasked else {})


def lists_by_patient(images: Sequence[ImageInfo], key: str) -> tuple[dict[int, list[str]], list[str]]:
    """Of training images with masks: nested labelled lists by ratio, and one for validation, of whole patients.

    Patients are in the order of sha256(key/patient), which a subset of them keeps. Labelled are the fewest first ones
    that have at least the ratio of the images, and the last ones, HELD percent, are for validation."""
    of: dict[str, list[str]] = {}
    for image in images:
        of.setdefault(image.patient, []).append(image.id)
    order, place = shuffled(of, key), {image.id: number for number, image in enumerate(images)}

    def first(patients: Iterable[str], ratio: int) -> list[str]:
        found: list[str] = []
        for patient in patients:
            if len(found) < percent(ratio, len(images)):
                found += of[patient]
        return sorted(found, key=place.__getitem__)

    labelled = {ratio: first(order, ratio) for ratio in RATIOS}
    return labelled, first((patient for patient in reversed(order) if not {*of[patient]} & {*labelled[HELD]}), HELD)


def fold_by_key(patient: str, folds: int, key: str) -> int:
    """The patient's fold, whoever the others are."""
    return int(hashlib.sha256(f"{key}/{patient}".encode()).hexdigest(), 16) % folds


def percent(ratio: int, total: int) -> int:
    """`ratio` percent of `total`, halves up, at least one."""
    return max(1, (2 * ratio * total + 100) // 200)


def apportion(
    total: int, sizes: Mapping[str, int], least: Mapping[str, int] | None = None, most: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Seats by largest remainder: `total` over strata in proportion to `sizes`, none below `least` or above `most`.

    One seat at a time to the stratum furthest below its share (whole numbers: share minus seats, times the sum); from
    zero that is the largest-remainder rule, and from a smaller list's seats it keeps lists nested."""
    whole, most = sum(sizes.values()), most or sizes
    seats = dict(least) if least else dict.fromkeys(sizes, 0)
    while sum(seats.values()) < total:
        open_ = [name for name in sorted(sizes) if seats[name] < most[name]]
        neediest = max(open_, key=lambda name: total * sizes[name] - seats[name] * whole)
        seats[neediest] += 1
    return seats


def shuffled(names: Iterable[str], key: str) -> list[str]:
    """The names in the order of sha256(key/name)."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{key}/{name}".encode()).digest())


def assign_patients_to_folds(images: Sequence[ImageInfo], folds: int, key: str) -> dict[str, int]:
    """patient -> fold, with counts as equal as can be: images in all, images in each stratum, patients.

    From each of ORDERS orders: put each patient where the sum of squared counts grows least, then move or swap
    patients while that helps. The best result is kept, the first of equals."""
    patients = sorted({image.patient for image in images})
    strata = sorted({image.stratum for image in images})
    place = {patient: number for number, patient in enumerate(patients)}
    weight = np.zeros((len(patients), 2 + len(strata)), np.int64)  # what each patient adds to its fold's counts
    weight[:, 0] = PATIENT_WEIGHT
    for image in images:
        weight[place[image.patient], [1, 2 + strata.index(image.stratum)]] += 1
    costs, homes = [], []
    for attempt in range(ORDERS):
        home, sums = np.zeros(len(patients), np.int64), np.zeros((folds, weight.shape[1]), np.int64)
        for patient in shuffled(patients, f"{key}/{attempt}"):
            mine = weight[place[patient]]
            fold = int((sums @ mine).argmin())  # (sum + mine)² - sum² is this twice, and the same for all folds
            home[place[patient]] = fold
            sums[fold] += mine
        _improve(home, sums, weight)
        costs.append(int((sums**2).sum()))
        homes.append(home)
    return dict(zip(patients, homes[int(np.argmin(costs))].tolist(), strict=True))


def _improve(home: np.ndarray, sums: np.ndarray, weight: np.ndarray) -> None:
    """Move a patient to another fold, or swap two, whichever lowers the sum of squared counts most, while one does.

    home: the fold of each patient, sums: the counts of each fold; both are changed. Of equals, moves come first, then
    the order of patients and folds decides."""
    patients, square = np.arange(len(home)), (weight**2).sum(1)
    pairs = 4 * weight @ weight.T if len(home) <= SWAPPED else None
    while True:
        product = weight @ sums.T  # [patient, fold]
        moves = 2 * (product - product[patients, home][:, None] + square[:, None])  # what each adds to the sum
        moves[patients, home] = 0
        patient, fold = divmod(int(moves.argmin()), len(sums))
        gain, trial = int(moves[patient, fold]), [(patient, fold)]
        if pairs is not None:
            into = moves[:, home]  # [patient, the fold of another]
            swaps = np.where(np.triu(home[:, None] != home), into + into.T - pairs, 0)
            one, other = divmod(int(swaps.argmin()), len(home))
            if swaps[one, other] < gain:
                gain, trial = int(swaps[one, other]), [(one, int(home[other])), (other, int(home[one]))]
        if gain >= 0:
            return
        for patient, fold in trial:
            sums[home[patient]] -= weight[patient]
            sums[fold] += weight[patient]
            home[patient] = fold
