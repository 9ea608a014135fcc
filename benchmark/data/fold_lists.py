"""The lists of one fold: labelled ones, nested and stratified, and validation, the same on every machine.

Chance is a sort by sha256 of a key with the image's id: no library's random numbers, which may change. In each
stratum (grade) the order of one fold gives all its lists: labelled lists are its beginning, at each ratio a longer
one, and the validation list is its end. Images without a mask are in none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmark.errors import UserError

RATIOS = (5, 10, 20, 50)  # percent of the training images that have a mask
VALIDATION = 20  # percent
LEARNT_FROM = ("train", "validation")  # sets; every other is for testing


@dataclass(frozen=True)
class Member:
    """An image as the splits see it."""

    id: str
    set: str
    stratum: str
    patient: str  # who must not be both in training and test: a patient, or a slide
    masked: bool = True

    @property
    def tests(self) -> bool:
        """Whether it is in a set for testing."""
        return self.set not in LEARNT_FROM


def fold_of(
    train: Sequence[Member], test: list[str], key: str, validation: list[str] | None = None,
    given: Mapping[int, list[str]] | None = None,
) -> dict[str, Any]:
    """One fold's lists; validation images and labelled ones, by ratio, are drawn here where they are not given."""
    masked = [image for image in train if image.masked]
    if not masked or not test:
        lack = "training image with a mask" if not masked else "test image"
        raise UserError(f"{key}: no {lack} is left; a split needs some")
    strata: dict[str, list[str]] = {}
    for image in masked:
        strata.setdefault(image.stratum, []).append(image.id)
    orders = {name: shuffled(ids, key) for name, ids in sorted(strata.items())}
    sizes = {name: len(ids) for name, ids in orders.items()}
    place = {image.id: number for number, image in enumerate(train)}
    counts = room = dict.fromkeys(sizes, 0)
    labelled = {}
    for ratio in RATIOS:
        counts = apportion(percent(ratio, len(masked)), sizes, counts)
        chosen = [name for stratum, ids in orders.items() for name in ids[:counts[stratum]]]
        labelled[str(ratio)] = sorted(chosen, key=place.__getitem__)
        if ratio <= VALIDATION:
            room = {stratum: size - counts[stratum] for stratum, size in sizes.items()}
    if given:
        labelled = {str(ratio): names for ratio, names in given.items()}
    if validation is None:
        free = [name for stratum, ids in orders.items() for name in ids[sizes[stratum] - room[stratum]:]]
        held = apportion(min(percent(VALIDATION, len(masked)), len(free)), sizes, most=room)
        chosen = [name for stratum, ids in orders.items() for name in ids[len(ids) - held[stratum]:]]
        taken = set().union(*labelled.values()) if given else set()
        validation = sorted(set(chosen) - taken, key=place.__getitem__)
    fold = {"train": [image.id for image in train], "validation": validation, "labelled": labelled, "test": test}
    if not given:
        _check(fold)
    unmasked = [image.id for image in train if not image.masked]
    return fold | ({"unmasked": unmasked} if unmasked else {})


def _check(fold: Mapping[str, Any]) -> None:
    lists = [set(fold["labelled"][str(ratio)]) for ratio in RATIOS]
    assert all(small <= large for small, large in pairwise(lists)), "labelled lists must be nested"
    honest = [names for ratio, names in zip(RATIOS, lists, strict=True) if ratio <= VALIDATION]
    assert not set(fold["validation"]) & set().union(*honest), "validation images must not be labelled ones"


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
