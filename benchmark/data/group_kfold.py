"""Which fold of a cross-validation each patient is in, as evenly balanced as can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.data.fold_lists import ImageInfo, shuffled

ORDERS = 50  # starting orders tried
SWAPPED = 2000  # patients up to whom all pairs are tried: a table of pairs takes 32 MB there
PATIENT_WEIGHT = 5  # a patient weighs as 5 images in the balance: intervals resample patients, so folds need several


def assign_patients_to_folds(images: Sequence[ImageInfo], folds: int, key: str) -> dict[str, int]:
    """patient -> fold, with counts as equal as can be: images in all, images in each stratum, patients.

    From each of ORDERS orders: put each patient where the sum of squared counts grows least, then move or swap
    patients while that helps. The best result is kept, the first of equals."""
    strata = sorted({image.stratum for image in images})
    counted: dict[str, list[int]] = {}
    for image in images:
        counts = counted.setdefault(image.patient, [PATIENT_WEIGHT, 0] + [0] * len(strata))
        counts[1] += 1
        counts[2 + strata.index(image.stratum)] += 1
    place = {patient: number for number, patient in enumerate(sorted(counted))}
    weight = np.array([counted[patient] for patient in place], dtype=np.int64)
    best: tuple[int, np.ndarray] | None = None
    for attempt in range(ORDERS):
        home, sums = np.zeros(len(place), np.int64), np.zeros((folds, weight.shape[1]), np.int64)
        for patient in shuffled(counted, f"{key}/{attempt}"):
            mine = weight[place[patient]]
            fold = int((sums @ mine).argmin())  # (sum + mine)² - sum² is this twice, and the same for all folds
            home[place[patient]] = fold
            sums[fold] += mine
        _improve(home, sums, weight)
        cost = int((sums**2).sum())
        if best is None or cost < best[0]:
            best = cost, home
    assert best is not None
    return {patient: int(best[1][number]) for patient, number in place.items()}


def _improve(home: np.ndarray, sums: np.ndarray, weight: np.ndarray) -> None:
    """Move a patient to another fold, or swap two, whichever lowers the sum of squared counts most, while one does.

    home: the fold of each patient, sums: the counts of each fold; both are changed. Of equals, moves come first, then
    the order of patients and folds decides."""
    patients, square = np.arange(len(home)), (weight**2).sum(1)
    pairs = weight @ weight.T if len(home) <= SWAPPED else None
    while True:
        product = weight @ sums.T  # [patient, fold]
        own = product[patients, home]
        changes = 2 * (product - own[:, None] + square[:, None])
        changes[patients, home] = 0
        first = int(changes.argmin())
        gain, trial = int(changes.flat[first]), [divmod(first, len(sums))]
        if pairs is not None:
            across = product[:, home]  # [patient, the fold of another]
            swaps = across + across.T - own[:, None] - own + square[:, None] + square - 2 * pairs
            swaps = np.where(np.triu(home[:, None] != home), 2 * swaps, 0)
            first = int(swaps.argmin())
            if swaps.flat[first] < gain:
                one, other = divmod(first, len(home))
                gain, trial = int(swaps.flat[first]), [(one, int(home[other])), (other, int(home[one]))]
        if gain >= 0:
            return
        for patient, fold in trial:
            sums[home[patient]] -= weight[patient]
            sums[fold] += weight[patient]
            home[patient] = fold
