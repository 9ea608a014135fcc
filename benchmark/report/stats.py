"""Spread over draws, and intervals that respect patients: images of one patient are not independent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
KEY = 2017  # of the random stream: every method gets the same resamples, so that differences are paired


class Summary(NamedTuple):
    """Mean and standard deviation (ddof 1; nan for a single value) of n values."""

    mean: float
    sd: float
    n: int


class Images(NamedTuple):
    """One value an image, averaged over draws, and the unit (patient) that it belongs to."""

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


def average_over_draws(draws: Iterable[tuple[Sequence[str], Sequence[str], NDArray[np.float64]]]) -> Images:
    """Draws of (ids, patients, values) [n] -> every image once, with the mean of its defined values.

    An image of no named patient is a unit of its own. Images that are undefined in every draw are left out.
    """
    values: dict[str, list[float]] = defaultdict(list)
    unit: dict[str, str] = {}
    for ids, patients, scores in draws:
        for name, patient, score in zip(ids, patients, scores, strict=True):
            if not math.isnan(score):
                values[str(name)].append(float(score))
                unit[str(name)] = f"patient {patient}" if str(patient) else f"image {name}"
    ids = tuple(sorted(values))
    means = np.array([math.fsum(values[name]) / len(values[name]) for name in ids])
    return Images(ids, tuple(unit[name] for name in ids), means)


def interval(images: Images) -> Interval | None:
    """Bootstrap interval of the mean over images, whole units resampled; None with fewer than two units.

    2,000 resamples, 95 %, percentiles. With few units (12 test patients in GlaS) it covers less than that.
    """
    names = sorted(set(images.units))
    if len(names) < 2:
        return None
    position = {name: row for row, name in enumerate(names)}
    rows = np.array([position[unit] for unit in images.units])
    totals = np.bincount(rows, weights=images.values, minlength=len(names))
    sizes = np.bincount(rows, minlength=len(names))
    times = _multiplicities(len(names))
    means = (times @ totals) / (times @ sizes)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(images.values.mean()), float(low), float(high), len(names))


def paired_interval(first: Images, second: Images) -> Interval | None:
    """Bootstrap interval of the mean difference first - second over the images that both have."""
    other = dict(zip(second.ids, second.values, strict=True))
    common = [row for row, name in enumerate(first.ids) if name in other]
    ids = tuple(first.ids[row] for row in common)
    differences = np.array([first.values[row] - other[first.ids[row]] for row in common])
    return interval(Images(ids, tuple(first.units[row] for row in common), differences))


@lru_cache(16)
def _multiplicities(units: int) -> NDArray[np.float64]:
    """How often each unit is drawn in each resample, [resamples, units].

    Raw Philox words and our own rounding: NumPy promises the words in every version, not its distributions.
    """
    words = np.random.Philox(key=KEY).random_raw(RESAMPLES * units)
    drawn = ((words >> np.uint64(11)) * 2.0**-53 * units).astype(np.int64)
    cell = drawn + units * np.repeat(np.arange(RESAMPLES), units)
    return np.bincount(cell, minlength=RESAMPLES * units).reshape(RESAMPLES, units).astype(np.float64)
