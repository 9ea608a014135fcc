"""Spread and intervals against loops and formulas."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.report import stats


def test_mean_and_standard_deviation() -> None:
    assert stats.summary([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(1.5275252317), 3)
    assert np.isnan(stats.summary([5.0]).sd) and np.isnan(stats.summary([]).mean)


def test_images_are_averaged_over_draws_first() -> None:
    draws = [(["b", "a"], ["p", "q"], np.array([0.2, 1.0])), (["b", "c"], ["p", ""], np.array([0.4, np.nan]))]
    images = stats.average_over_draws(draws)
    assert images.ids == ("a", "b") and images.units == ("patient q", "patient p")
    np.testing.assert_allclose(images.values, [1.0, 0.3])


def test_interval_resamples_whole_patients() -> None:
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(20), 4)
    values = (random.normal(0, 1, 20)[patient] + random.normal(0, 0.1, 80)) * 0.1 + 0.8
    ids = tuple(map(str, range(80)))
    found = stats.interval(stats.Images(ids, tuple(map(str, patient)), values))
    alone = stats.interval(stats.Images(ids, ids, values))
    assert found and alone and found.units == 20 and alone.units == 80
    means = values.reshape(20, 4).mean(1)
    expected = 2 * 1.96 * means.std() / np.sqrt(20)
    assert found.high - found.low == pytest.approx(expected, rel=0.1)
    assert found.high - found.low > 1.7 * (alone.high - alone.low)  # what ignoring patients would pretend
    assert stats.interval(stats.Images(("a", "b"), ("p", "p"), np.ones(2))) is None


def test_interval_equals_a_loop_over_resamples() -> None:
    images = stats.Images(tuple("abcde"), ("p", "p", "q", "r", "r"), np.array([0.1, 0.5, 0.9, 0.3, 0.6]))
    words = np.random.Philox(key=stats.KEY).random_raw(stats.RESAMPLES * 3).reshape(-1, 3)
    by_patient = {0: [0.1, 0.5], 1: [0.9], 2: [0.3, 0.6]}
    means = []
    for row in words:
        drawn = [int((int(word) >> 11) * 2.0**-53 * 3) for word in row]
        means.append(np.mean([value for patient in drawn for value in by_patient[patient]]))
    found = stats.interval(images)
    assert found and (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)
    assert stats.interval(images) == found


def test_paired_interval_is_narrower_than_either() -> None:
    random = np.random.default_rng(1)
    ids = tuple(map(str, range(40)))
    hard = random.random(40)
    first = stats.Images(ids, ids, hard)
    second = stats.Images(ids[:30], ids[:30], (hard - 0.05 + 0.01 * random.normal(size=40))[:30])
    difference, single = stats.paired_interval(first, second), stats.interval(first)
    assert difference and single and difference.units == 30
    assert difference.low < 0.05 < difference.high or abs(difference.estimate - 0.05) < 0.01
    assert difference.high - difference.low < 0.2 * (single.high - single.low)
