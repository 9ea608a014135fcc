"""Spread over draws, and intervals that respect patients: images of one patient are not independent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.randomness import uniform

RESAMPLES = 2000
LEVEL = 0.95
KEY = 2017  # of the random stream: every method gets the same resamples, so that differences are paired
EXACT_UNITS = 14  # up to so many units every flip of signs is counted, 2^14 of them; beyond, so many are drawn:
FLIPS = 10_000


class Summary(NamedTuple):
    """Mean and standard deviation (ddof 1; nan for a single value) of n values."""

    mean: float
    sd: float
    n: int


class Images(NamedTuple):
    """One value an image (a score, or a difference of two) and the unit (patient) that it belongs to."""

    ids: tuple[str, ...]
    units: tuple[str, ...]
    values: NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and its percentile interval, over so many units."""

    estimate: float
    low: float
    high: float
    units: int


def summary(values: Iterable[float]) -> Summary:
    """Mean, standard deviation and number of the values; nan where there are too few."""
    known = [value for value in values if not math.isnan(value)]
    n = len(known)
    mean = math.fsum(known) / n if n else math.nan
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (n - 1)) if n > 1 else math.nan
    return Summary(mean, sd, n)


def part(n: int, wanted: int) -> str:
    """`(2/3)` where only n of the wanted draws are there, else nothing."""
    return f"({n}/{wanted})" if n < wanted else ""


def in_words(numbers: Iterable[int]) -> str:
    """How many draws there are in several places, e.g. `2 to 3 draws`."""
    known = sorted(set(numbers))
    span = " to ".join(map(str, dict.fromkeys((known[0], known[-1])))) if known else "0"
    return f"{span} draw" if span == "1" else f"{span} draws"


def average_over_draws(draws: Iterable[tuple[Sequence[str], Sequence[str], NDArray[np.float64]]]) -> Images:
    """Draws of (ids, patients, values) [n] -> every image once, with the mean of its defined values.

    An image of no named patient is a unit of its own. Images that are undefined in every draw are left out.
    """
    return average(_images(*draw) for draw in draws)


def _images(ids: Sequence[str], patients: Sequence[str], scores: NDArray[np.float64]) -> Images:
    names = tuple(str(name) for name in ids)
    units = tuple(
        f"patient {patient}" if str(patient) else f"image {name}" for name, patient in zip(names, patients, strict=True)
    )
    return Images(names, units, np.asarray(scores, dtype=np.float64))


def average(draws: Iterable[Images]) -> Images:
    """Every image once, with the mean of its defined values; those that are undefined in every draw are left out."""
    values: dict[str, list[float]] = defaultdict(list)
    unit: dict[str, str] = {}
    for draw in draws:
        for name, place, value in zip(*draw, strict=True):
            if not math.isnan(value):
                values[name].append(float(value))
                unit[name] = place
    ids = tuple(sorted(values))
    means = np.array([math.fsum(values[name]) / len(values[name]) for name in ids])
    return Images(ids, tuple(unit[name] for name in ids), means)


def common(first: Images, second: Images) -> tuple[Images, Images]:
    """Both, in the order of the first, with the images alone that both have and define."""
    other = dict(zip(second.ids, second.values, strict=True))
    kept = [
        (name, unit, value, other[name]) for name, unit, value in zip(*first, strict=True)
        if name in other and not math.isnan(value - other[name])
    ]
    ids, units = tuple(entry[0] for entry in kept), tuple(entry[1] for entry in kept)
    one, two = (np.array([entry[place] for entry in kept], dtype=np.float64) for place in (2, 3))
    return Images(ids, units, one), Images(ids, units, two)


def differences(first: Images, second: Images) -> Images:
    """first - second of the images that both have, and that both define."""
    one, two = common(first, second)
    return one._replace(values=one.values - two.values)


def interval(images: Images) -> Interval | None:
    """Bootstrap interval of the mean over images, whole units resampled; None with fewer than two units.

    2,000 resamples, 95 %, percentiles. With few units (12 test patients in GlaS) it covers less than that.
    """
    totals, sizes = _by_unit(images)
    if len(totals) < 2:
        return None
    times = _multiplicities(len(totals))
    means = (times @ totals) / (times @ sizes)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(images.values.mean()), float(low), float(high), len(totals))


def paired_interval(first: Images, second: Images) -> Interval | None:
    """Bootstrap interval of the mean difference first - second over the images that both have."""
    return interval(differences(first, second))


def sign_flip(differences: Images) -> float:
    """Two-sided p of "the mean difference is 0": how often flipped signs give a mean as far from 0, or farther.

    Signs are flipped of whole units (patients), whose differences are exchangeable with their negatives if neither
    side is better. Exact for up to 14 units; beyond, 10,000 flips, the observed one counted among them, so that p is
    never 0 (Phipson and Smyth 2010). nan without images.
    """
    totals, _ = _by_unit(differences)  # the number of images is the same in every flip: totals order as means do
    if not len(totals):
        return math.nan
    observed = abs(math.fsum(totals))
    allowance = 1e-9 * np.abs(totals).sum()  # sums that are equal but for the order of their rounding
    signs = _flips(len(totals))
    extreme = int(np.count_nonzero(np.abs(signs @ totals) >= observed - allowance))
    return extreme / len(signs) if len(totals) <= EXACT_UNITS else (1 + extreme) / (1 + len(signs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjustment of a family, in the given order; nan is no member of it and stays nan."""
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def _by_unit(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of values and number of images of every unit, in order of the units' names."""
    position = {name: row for row, name in enumerate(sorted(set(images.units)))}
    rows = np.array([position[unit] for unit in images.units], dtype=np.int64)
    totals, sizes = np.zeros(len(position)), np.zeros(len(position))
    np.add.at(totals, rows, images.values)
    np.add.at(sizes, rows, 1)
    return totals, sizes


@lru_cache(4)
def _flips(units: int) -> NDArray[np.float64]:
    """Signs for each unit in each flip, [flips, units]: all 2^units of them, or as many as are drawn."""
    if units <= EXACT_UNITS:
        negative = (np.arange(2**units)[:, None] >> np.arange(units)) & 1 == 1
    else:
        words = np.random.Philox(key=KEY).random_raw(FLIPS * units).reshape(FLIPS, units)
        negative = words >> np.uint64(63) == 1
    return np.where(negative, -1.0, 1.0)


@lru_cache(16)
def _multiplicities(units: int) -> NDArray[np.float64]:
    """How often each unit is drawn in each resample, [resamples, units].

    Raw Philox words and our own rounding: NumPy promises the words in every version, not its distributions.
    """
    words = np.random.Philox(key=KEY).random_raw(RESAMPLES * units)
    drawn = (uniform(words) * units).astype(np.int64)
    cell = drawn + units * np.repeat(np.arange(RESAMPLES), units)
    return np.bincount(cell, minlength=RESAMPLES * units).reshape(RESAMPLES, units).astype(np.float64)
