"""Spread and intervals against loops and formulas."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.report import stats
from tools.interval_coverage import coverage


def images(values: Any, units: Any) -> pd.Series:
    """Values of images, each of a unit."""
    return pd.Series(np.array(values, dtype=np.float64), pd.Index(list(units), name="unit", dtype=object))


def test_interval_equals_a_loop_over_resamples() -> None:
    values = images([0.1, 0.5, 0.9, 0.3, 0.6], "ppqrr")
    words = np.random.Philox(key=stats.KEY).random_raw(stats.RESAMPLES * 3).reshape(-1, 3)
    by_patient = {0: [0.1, 0.5], 1: [0.9], 2: [0.3, 0.6]}
    means = []
    for row in words:
        drawn = [int((int(word) >> 11) * 2.0**-53 * 3) for word in row]
        means.append(np.mean([value for patient in drawn for value in by_patient[patient]]))
    found = stats.interval(values)
    assert found and (found.low, found.high) == pytest.approx(np.quantile(means, stats.tails(3)), abs=1e-12)
    assert stats.interval(values) == found and found.estimate == pytest.approx(0.48) and found.units == 3
    assert stats.interval(images([1, 1], "pp")) is None and stats.interval(images([], "")) is None


def test_interval_is_wider_the_fewer_patients_there_are() -> None:
    values = images(np.random.default_rng(0).normal(size=12), "abcdefghijkl")
    means = stats.multiplicities(12) @ values.to_numpy() / 12
    found = stats.interval(values)  # normal quantile of -sqrt(12 / 11) * 2.201, Student's t with 11 degrees of freedom
    assert found and (found.low, found.high) == pytest.approx(np.quantile(means, [0.01076, 0.98924]), abs=1e-4)
    assert stats.tails(10_000) == pytest.approx((0.025, 0.975), abs=1e-4)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    for units, least in ((6, 0.92), (12, 0.93), (40, 0.93)):
        covered = coverage(random.normal(size=(1500, units)), stats.tails(units))
        assert least < covered < 0.97, f"{units} units: {covered}"


def test_sign_flips_by_hand() -> None:
    assert stats.sign_flip(images([0.1, 0.2, 0.3], "pqr")) == 2 / 8  # only all signs as they are, or all reversed
    assert stats.sign_flip(images([0.3, -0.1, 0.1], "pqr")) == 6 / 8  # |sums| 0.5, 0.3, 0.3, 0.1, each twice
    assert stats.sign_flip(images([0.3, 0.1, -0.1, 0.2], "pppq")) == 2 / 4  # p flips as a whole
    assert stats.sign_flip(images([0.1, -0.1], "pq")) == 1
    assert stats.sign_flip(images([0.0, 0.0], "pq")) == 1
    assert stats.sign_flip(images([0.4], "p")) == 1
    assert np.isnan(stats.sign_flip(images([], "")))
    assert stats.sign_flip(images([0.1, 0.2, 0.3, 0.0], "pqrs")) == 4 / 16  # ties count, however their sums round
    assert stats.sign_flip(images([0.1, 0.7, 0.2, 0.1], "pqrs")) == 2 / 16
    assert stats.sign_flip(images([0.1] * 7 + [-0.1], "abcdefgh")) == (1 + 1 + 8 + 8) / 2**8  # seven, or eight, alike


def test_sign_flips_equal_a_loop_over_all_of_them() -> None:
    random = np.random.default_rng(3)
    for units in (3, 8, 11):
        values = random.normal(0.3, 1, 3 * units)
        names = "".join(chr(97 + i % units) for i in range(3 * units))
        totals = [sum(v for v, name in zip(values, names, strict=True) if name == chr(97 + u)) for u in range(units)]
        flips = [abs(np.dot(signs, totals)) for signs in product((1, -1), repeat=units)]
        expected = np.mean(np.array(flips) >= abs(sum(totals)) - 1e-12)
        assert stats.sign_flip(images(list(values), names)) == pytest.approx(expected, abs=1e-12)


def test_random_flips_come_from_the_top_bits_of_philox_words() -> None:
    words = np.random.Philox(key=stats.KEY).random_raw(stats.FLIPS * 20)
    signs = np.array([-1 if int(word) >> 63 else 1 for word in words]).reshape(-1, 20)
    values = np.random.default_rng(6).normal(0.3, 1, 20)
    extreme = sum(abs(float(row @ values)) >= abs(values.sum()) - 1e-9 for row in signs)
    assert stats.sign_flip(images(list(values), "abcdefghijklmnopqrst")) == (1 + extreme) / (1 + stats.FLIPS)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, 0.6]) == [1.0, 1.0] and stats.holm([0.2]) == [0.2] and stats.holm([]) == []
    adjusted = stats.holm([0.01, float("nan"), 0.02])
    assert adjusted[::2] == [0.02, 0.02] and np.isnan(adjusted[1])


def test_numbers_of_draws_in_words() -> None:
    told = [stats.draws_in_words(numbers) for numbers in ([1, 1], [3], [1, 3, 2], [], iter([2, 2]))]
    assert told == ["1 draw", "3 draws", "1 to 3 draws", "0 draws", "2 draws"]
