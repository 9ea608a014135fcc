"""The lists of one fold: labelled ones, nested and stratified, and validation, the same on every machine.

Chance is a sort by sha256 of a key with the image's id: no library's random numbers, which may change. In each
stratum (grade) the order of one fold gives all its lists: labelled lists are its beginning, at each ratio a longer
one, and the validation list is its end. Images without a mask are in none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.errors import UserError

RATIOS = (5, 10, 20, 50)  # percent of the training images that have a mask; lists at others lie between these
VALIDATION = 20  # percent
LEARNT_FROM = ("train", "validation")  # sets; every other is for testing


@dataclass(frozen=True)
class ImageInfo:
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


class FoldOrder:
    """The order in which the masked training images of a fold get labels, stratum by stratum."""

    def __init__(self, train: Sequence[ImageInfo], key: str) -> None:
        masked = [image for image in train if image.masked]
        self.total = len(masked)
        self._place = {image.id: number for number, image in enumerate(train)}
        strata: dict[str, list[str]] = {}
        for image in masked:
            strata.setdefault(image.stratum, []).append(image.id)
        self._orders = {name: shuffled(ids, key) for name, ids in sorted(strata.items())}
        self._sizes = {name: len(ids) for name, ids in self._orders.items()}

    def labelled(self, ratio: int) -> list[str]:
        """The labelled list at `ratio` percent; a list at a lower ratio is part of it."""
        seats = self._seats(ratio)
        return self._sorted(name for stratum, ids in self._orders.items() for name in ids[: seats[stratum]])

    def validation(self) -> list[str]:
        """The images that are labelled last, VALIDATION percent of all, none of those in its labelled list."""
        honest = max(ratio for ratio in RATIOS if ratio <= VALIDATION)
        room = {stratum: self._sizes[stratum] - seats for stratum, seats in self._seats(honest).items()}
        wanted = min(percent(VALIDATION, self.total), sum(room.values()))
        held = apportion(wanted, self._sizes, most=room)
        return self._sorted(
            name for stratum, ids in self._orders.items() for name in ids[len(ids) - held[stratum] :]
        )

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
    train: Sequence[ImageInfo], test: list[str], key: str, validation: list[str] | None = None,
    labelled: Mapping[int, list[str]] | None = None,
) -> dict[str, Any]:
    """One fold's lists; validation images and labelled ones, by ratio, are drawn here where they are not given."""
    order = FoldOrder(train, key)
    if not order.total or not test:
        lack = "training image with a mask" if not order.total else "test image"
        raise UserError(f"{key}: no {lack} is left; a split needs some")
    lists = labelled or {ratio: order.labelled(ratio) for ratio in RATIOS}
    if validation is None:
        taken = set().union(*lists.values()) if labelled else set()
        validation = [name for name in order.validation() if name not in taken]
    fold = {
        "train": [image.id for image in train], "validation": validation,
        "labelled": {str(ratio): names for ratio, names in lists.items()}, "test": test,
    }
    unmasked = [image.id for image in train if not image.masked]
    return fold | ({"unmasked": unmasked} if unmasked else {})


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
