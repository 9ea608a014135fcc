"""Images that a split learns from and tests on at once: the same pixels, or a copy that looks alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmark.data.make_splits import members
from benchmark.data.near_duplicates import Alike
from benchmark.data.splits import available, load_split
from benchmark.data.store import PreparedData


@dataclass(frozen=True)
class Side:
    """What one fold of a split learns from, with labels or without, and what it tests on."""

    split: str
    fold: int
    training: frozenset[str]
    test: frozenset[str]


@dataclass(frozen=True)
class Leak:
    """A training image and a test image of a split that are one picture."""

    split: str
    folds: tuple[int, ...]
    training: str
    test: str
    alike: Alike | None  # None: the pixels are the same


def sides(prepared: PreparedData) -> list[Side]:
    """Of every fold of every split that is made; where there is none, of the sets as they are."""
    found = []
    for offer in available(prepared.dataset):
        for fold in range(offer.folds):
            lists = load_split(prepared.dataset, offer.split, 100, fold)
            found.append(Side(offer.split, fold, frozenset(lists.labelled + lists.unlabelled), frozenset(lists.test)))
    if not found:
        images = members(prepared)
        training = frozenset(image.id for image in images if not image.tests)
        found.append(Side("as released", 0, training, frozenset(prepared.ids) - training))
    return found


def duplicates(prepared: PreparedData) -> list[list[str]]:
    """The ids of images whose pixels are the same, a list for each such picture."""
    same: dict[str, list[str]] = {}
    for name, digest in zip(prepared.ids, prepared.hashes, strict=True):
        same.setdefault(digest, []).append(name)
    return [names for names in same.values() if len(names) > 1]


def leaks(
    ids: Sequence[str], same: Iterable[Sequence[str]], alike: Iterable[Alike], of: Sequence[Side],
) -> list[Leak]:
    """What `same` pixels and what looks `alike` between training and test, those of the same pixels first."""
    pairs = [(one, other, None) for names in same for one, other in _pairs(names)]
    return [
        Leak(split, tuple(folds), training, test, found)
        for one, other, found in [*pairs, *((ids[pair.first], ids[pair.second], pair) for pair in alike)]
        for (split, training, test), folds in _crossings(one, other, of).items()
    ]


def _pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((one, other) for place, one in enumerate(names) for other in names[place + 1:])


def _crossings(one: str, other: str, of: Sequence[Side]) -> dict[tuple[str, str, str], list[int]]:
    """(split, training image, test image) -> the folds in which two images are on both sides."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for side in of:
        for training, test in ((one, other), (other, one)):
            if training in side.training and test in side.test:
                found.setdefault((side.split, training, test), []).append(side.fold)
    return found
