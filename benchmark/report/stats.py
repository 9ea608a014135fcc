"""Intervals and tests that respect patients: images of one patient are not independent.

Values are Series over images whose index has a level `unit`: the patient, else the image itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, t

from benchmark.randomness import uniform

RESAMPLES = 2000
LEVEL = 0.95
KEY = 2017  # of the random stream: every method gets the same resamples, so that differences are paired
EXACT_UNITS = 14  # up to so many units every flip of signs is counted, 2^14 of them; beyond, so many are drawn:
FLIPS = 10_000


class Interval(NamedTuple):
    """An estimate and its 95 % interval, over so many units."""

    estimate: float
    low: float
    high: float
    units: int


def interval(values: pd.Series) -> Interval | None:
    """Bootstrap interval of the mean over images, whole units resampled; None with fewer than two units.

    2,000 resamples, 95 %, percentiles at `tails`.
    """
    totals, sizes = _by_unit(values)
    if len(totals) < 2:
        return None
    times = multiplicities(len(totals))
    means = (times @ totals) / (times @ sizes)
    low, high = np.quantile(means, tails(len(totals)))
    return Interval(float(totals.sum() / sizes.sum()), float(low), float(high), len(totals))


def tails(units: int) -> tuple[float, float]:
    """The two shares of resamples where a 95 % interval over so many units ends: 1.1 and 98.9 % for 12.

    Expanded percentiles (Hesterberg 2015): those at 2.5 and 97.5 % lie too close together by sqrt((n - 1) / n) and take
    the spread for known, so that over 12 patients they cover about 90 % where values are normal.
    """
    share = float(norm.cdf(-math.sqrt(units / (units - 1)) * t.ppf((1 + LEVEL) / 2, units - 1)))
    return share, 1 - share


def sign_flip(differences: pd.Series) -> float:
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


def draws_in_words(numbers: Iterable[int]) -> str:
    """How many draws there are in several places, e.g. `2 to 3 draws`."""
    known = sorted({int(number) for number in numbers})
    span = " to ".join(map(str, dict.fromkeys((known[0], known[-1])))) if known else "0"
    return f"{span} draw" if span == "1" else f"{span} draws"


def _by_unit(values: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the defined values and their number, for every unit in order of the units' names."""
    known = values.dropna()
    codes, units = pd.factorize(known.index.get_level_values("unit"), sort=True)
    totals = np.bincount(codes, known, len(units)).astype(np.float64)  # of no image it is of integers
    return totals, np.bincount(codes, minlength=len(units)).astype(np.float64)


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
def multiplicities(units: int) -> NDArray[np.float64]:
    """How often each unit is drawn in each resample, [resamples, units].

    Raw Philox words and our own rounding: NumPy promises the words in every version, not its distributions.
    """
    words = np.random.Philox(key=KEY).random_raw(RESAMPLES * units)
    drawn = (uniform(words) * units).astype(np.int64)
    cell = drawn + units * np.repeat(np.arange(RESAMPLES), units)
    return np.bincount(cell, minlength=RESAMPLES * units).reshape(RESAMPLES, units).astype(np.float64)
