"""Ranks by hand: rows of tenths, whose order in every resample is known."""

import csv
import io
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, t, ttest_rel

from benchmark.report.agreement import agreements, tau_b
from benchmark.report.csv_file import comma_separated
from benchmark.report.figures.rankings import ranks as draw
from benchmark.report.figures.style import styled
from benchmark.report.rank_table import rank_table
from benchmark.report.ranks import Ranking, rankings
from benchmark.report.results_frame import Group
from benchmark.report.stats import multiplicities
from tests.made_records import expected, made_counts, of_experiment, only, record, tenths

LOW, MIDDLE, HIGH = [1, 2, 1, 2, 1, 3], [4, 5, 4, 6, 5, 4], [8, 9, 8, 8, 9, 7]


def draws(method: str, *values: list[int | None], **other: Any) -> list[Any]:
    return [tenths(method, each, fold, **other) for fold, each in enumerate(values)]


def one(group: Group) -> Ranking:
    (ranking,) = rankings(group)
    return ranking


def test_a_row_that_is_always_better_is_first_in_every_resample() -> None:
    group = only(*draws("low", LOW, LOW), *draws("high", HIGH, HIGH), *draws("middle", MIDDLE, MIDDLE))
    found = one(group)
    assert found.rows == ["high", "middle", "low"] and list(found.ranks) == [1, 2, 3]
    np.testing.assert_array_equal(found.shares, np.eye(3))
    np.testing.assert_array_equal(found.ranges, [[1, 1], [2, 2], [3, 3]])
    assert found.letters == ["a", "b", "c"]
    table = rank_table(group)
    assert table and table.rows[0] == ["high", "20 %", "1", "[1, 1]", "100.0 %", "a", "2", "0"]
    assert "3 patients resampled" in table.caption and "draws too" in table.caption


def test_equal_rows_share_ranks_first_places_and_a_letter() -> None:
    found = one(only(*draws("one", HIGH), *draws("two", HIGH), *draws("low", LOW)))
    assert list(found.ranks) == [1.5, 1.5, 3] and found.letters == ["a", "a", "b"]
    np.testing.assert_allclose(found.shares, [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])


def test_resamples_equal_a_loop_over_patients_and_draws() -> None:
    one_row, other = [[1, 3, 5, None, 2, 2], [2, 2, 9, 1, 1, 4]], [[2, 2, 2, 2, 2, 2], [3, 3, 3, 1, 5, 3]]
    found = one(only(*draws("one", *one_row), *draws("other", *other)))
    assert found.resampled is not None and found.units == 3
    patients, weights = multiplicities(3), multiplicities(2)
    for resample in (1, 7, 1999):
        for row, values in {"one": one_row, "other": other}.items():
            means = [np.average([v / 10 for v in of if v is not None],
                                weights=[patients[resample][i // 2] for i, v in enumerate(of) if v is not None])
                     for of in values]  # fmt: skip
            by_hand = np.average(means, weights=weights[resample - 1])
            assert found.resampled[resample, found.rows.index(row)] == pytest.approx(by_hand)


def test_a_row_apart_from_one_of_two_that_are_alike_has_letters_of_its_own() -> None:
    rows = {"one": [9, 9, 8, 8, 7, 7], "two": [6, 6, 5, 5, 4, 4], "noisy": [1, 1, 9, 9, 8, 8]}
    found = one(only(*(entry for name, values in rows.items() for entry in draws(name, values))))
    letters = dict(zip(found.rows, found.letters, strict=True))
    assert not set(letters["one"]) & set(letters["two"])
    assert set(letters["noisy"]) & set(letters["one"]) and set(letters["noisy"]) & set(letters["two"])


def test_two_rows_and_one_draw_are_a_t_test_over_patients() -> None:
    random, seen = np.random.default_rng(5), set()
    for shift in (0, 1, 1, 2, 2, 3):
        values = random.integers(1, 7, (2, 12)) + np.array([[0], [shift]])
        patients = "ppqqrrssttuu"
        found = one(only(*(tenths(name, list(map(int, of)), patients=patients)
                           for name, of in zip("ab", values, strict=True))))  # fmt: skip
        by_patient = values.reshape(2, 6, 2).mean(axis=2)
        seen.add(expected_apart := bool(ttest_rel(*by_patient).pvalue < 0.05))
        assert found.apart.any() == expected_apart == (found.letters == ["a", "b"])
    assert seen == {True, False}


def test_draws_that_contradict_each_other_tell_no_rows_apart() -> None:
    high, low = [9, 9, 8, 8, 9, 9], [2, 2, 1, 1, 2, 2]
    found = one(only(*draws("one", high, high, [3] * 6), *draws("two", low, low, [4] * 6)))
    assert found.letters == ["a", "a"] and found.shares[0, 0] < 1
    alike = one(only(*draws("one", high, high, high), *draws("two", low, low, low)))
    assert alike.letters == ["a", "b"]


def test_rows_are_ranked_on_draws_that_they_share_and_bounds_have_no_rank() -> None:
    runs = [*draws("one", LOW, LOW, HIGH, LOW), *draws("two", *[MIDDLE] * 4), *draws("three", HIGH),
            *draws("bound", HIGH, ratio=100), record("four", status="failed", reason="no memory")]  # fmt: skip
    found = one(only(*runs))  # two rows meet in four draws; on the first alone three pairs of rows would
    assert found.rows == ["two", "one"] and found.left_out == ("three",) and len(found.draws) == 4
    fewer = [each for each in runs if each[0]["spec"]["fold"] < 3]
    assert len(one(only(*fewer)).rows) == 3, "three pairs either way, but more rows"
    table = rank_table(only(*runs))
    assert table and not table.notes[0].startswith("Kendall") and "lacking one of them: three" in table.notes[0]
    few = rank_table(only(*draws("one", LOW, LOW), *draws("two", HIGH)))
    assert few and "ranked on 1 of 2 draws" in few.notes[0]
    assert "ranges and groups say nothing of other draws" in few.notes[1]
    assert "nothing else, since there is one draw" in few.caption
    assert "with several draws, one over draws" in few.caption
    assert rank_table(only(*draws("one", LOW), tenths("two", LOW, 1))) is None, "no draw in common"
    assert rank_table(only(*draws("one", LOW), *draws("bound", HIGH, ratio=100))) is None


def test_one_patient_has_ranks_without_ranges() -> None:
    group = only(*draws("one", LOW, LOW, patients="pppppp"), *draws("two", HIGH, HIGH, patients="pppppp"))
    table = rank_table(group)
    assert table and table.rows[0] == ["two", "20 %", "1", "–", "–", "–", "–", "–"]
    assert "one patient: nothing can be resampled" in table.notes[0] and "resampled" not in table.caption
    assert all(np.isnan(each.low) for each in agreements(group)) and draw(group, 20) is None


def test_tau_is_that_of_scipy() -> None:
    random = np.random.default_rng(3)
    for ties in (4, 1000):
        one_side, other = random.integers(0, ties, (2, 50, 7)).astype(float)
        by_hand = [kendalltau(a, b).statistic for a, b in zip(one_side, other, strict=True)]
        np.testing.assert_allclose(tau_b(one_side, other), by_hand, atol=1e-12)
    assert np.isnan(tau_b(np.ones(3), np.arange(3.0)))


def test_orders_of_protocols_and_of_data_sets_are_compared() -> None:
    here = [*draws("one", LOW, LOW), *draws("two", MIDDLE, MIDDLE), *draws("three", HIGH, HIGH)]
    there = [*draws("one", HIGH, HIGH, dataset="other"), *draws("two", MIDDLE, MIDDLE, dataset="other"),
             *draws("three", LOW, LOW, dataset="other")]  # fmt: skip
    for made, _ in there:
        made["run_id"] += "-other"
    plan = [expected(made["spec"]["method"], made) for made, _ in here + there]
    groups = of_experiment(here + there, plan)
    *protocols, of_draws, data = agreements(groups[0], groups)
    assert [(each.first, each.second) for each in protocols] == [
        ("strict", "validation"), ("strict", "paper"), ("validation", "paper")]  # fmt: skip
    scores = groups[0].draw_scores("dice")
    rows = [("one", 20), ("two", 20), ("three", 20)]
    for each in protocols:
        sides = [[round(float(np.mean(scores[name][row])), 9) for row in rows] for name in (each.first, each.second)]
        np.testing.assert_equal(each.tau, kendalltau(*sides).statistic)
    assert of_draws[1:5] == ("draw 0", "draw 1", 3, 1)
    assert data[3:5] == (3, -1) and data.data == "made official and other official"
    assert np.isnan(data.low)  # every resample has these orders: that tells nothing of the spread
    table = rank_table(groups[0], groups)
    assert table and any("made official and other official -1.00 (3 rows)" in n for n in table.notes)
    (with_tuned,) = (one for one in agreements(groups[0], [replace(groups[0], tuned=True)]) if one.data)
    assert with_tuned.tau == 1 and with_tuned.data == "made official and made official tuned"


def test_default_and_tuned_settings_are_ordered_by_the_draws_of_both() -> None:
    runs = [*draws("one", LOW, HIGH, HIGH), *draws("two", MIDDLE, MIDDLE, MIDDLE), *draws("three", HIGH, LOW, LOW)]
    (default,) = of_experiment(runs, [expected(made["spec"]["method"], made) for made, _ in runs])
    first = replace(default, tuned=True, runs=tuple(run for run in default.runs if run.spec["fold"] == 0))
    for pair in ((default, first), (first, default)):
        (found,) = (one for one in agreements(pair[0], pair[1:]) if one.data)
        assert (found.n, found.tau) == (3, 1)


def at_random(draws: int, data: str = "made", split: str = "official") -> list[Any]:
    """Six rows whose scores under every protocol are random."""
    runs = [record(name, fold=fold, counts=made_counts(10 * fold + ord(name) + len(data)), dataset=data,
                   run_id=f"{name}-{data}-{fold}") for name in "abcdef" for fold in range(draws)]  # fmt: skip
    for made, _ in runs:
        made["spec"]["split"] = split
    return runs


@pytest.mark.parametrize("draws", [1, 2, 4])
def test_tau_lies_in_its_interval_which_with_one_draw_is_over_patients_alone(draws: int) -> None:
    runs = [*at_random(draws), *at_random(draws, "other", "quarter")]
    groups = of_experiment(runs, [expected(made["spec"]["method"], made) for made, _ in runs])
    found, table = agreements(groups[0], groups), rank_table(groups[0], groups)
    of_draws = [each for each in found if each.first.startswith("draw")]
    names = [f"draw {number}" for number in range(draws)]
    assert [(each.first, each.second) for each in of_draws] == list(combinations(names, 2))
    assert all(np.isnan(each.low) for each in of_draws) and not any(np.isnan(each.tau) for each in found)
    found = [each for each in found if each not in of_draws]
    assert found[-1][:-1] == agreements(groups[1], groups)[-1][:-1], "whichever table asks"
    assert table and len(found) == 4
    assert any("no interval where draws" in note for note in table.notes) == (draws == 1)
    for each in found:  # protocols that pool pixels keep no patients
        without = draws == 1 and not each.data
        assert np.isnan(each.low) and np.isnan(each.high) if without else -1 <= each.low < each.tau < each.high <= 1
    between, tau = "made official and other quarter", found[-1].tau
    lines = csv.DictReader(io.StringIO(comma_separated(groups[0], "abc", groups)))
    assert [line["mean"] for line in lines if line["dataset"] == between] == [f"{tau:.6f}"]
    assert any(f"{between} {tau:.2f}" in note for note in table.notes)


def test_the_interval_of_tau_between_protocols_is_a_t_interval_over_draws() -> None:
    group = only(*at_random(4))
    found = agreements(group)[1]
    table = group.scores[(group.scores.metric == "dice") & (group.scores["class"] == "")]
    strict, paper = (table[table.protocol == name].pivot_table("value", "row", "fold").to_numpy()
                     for name in ("strict", "paper"))  # fmt: skip
    taken = np.roll(multiplicities(4), 1, axis=0)
    taus = [kendalltau(strict @ weights, paper @ weights).statistic for weights in taken]
    half = t.ppf(0.975, 3) * np.std(taus) * np.sqrt(4 / 3)
    assert found.low == pytest.approx(max(found.tau - half, -1))
    assert found.high == pytest.approx(min(found.tau + half, 1))


def test_the_csv_has_ranks_below_the_scores_and_all_is_made_alike_again() -> None:
    def made() -> Group:
        return only(*draws("low", LOW, MIDDLE), *draws("high", HIGH, LOW))

    text = comma_separated(made(), "abc")
    lines = [line for line in csv.DictReader(io.StringIO(text)) if line["metric"] in ("rank", "first_place")]
    assert [(line["row"], line["metric"], line["unit"]) for line in lines] == [
        ("high", "rank", "rank"), ("high", "first_place", "fraction"),
        ("low", "rank", "rank"), ("low", "first_place", "fraction")]  # fmt: skip
    assert lines[0]["mean"] == "1.000000" and lines[0]["resampled_units"] == "3" and lines[0]["method"] == "high"
    assert text == comma_separated(made(), "abc") and rank_table(made()) == rank_table(made())


def test_the_figure_outlines_ranks_and_writes_shares() -> None:
    group = only(*draws("low", LOW, LOW), *draws("high", HIGH, HIGH))
    with styled():
        figure = draw(group, 20)
    assert figure is not None
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["100", "", "", "100", "a", "b"]
    assert len([line for line in axes.lines if line.get_gid() == "rank"]) == 2
    assert draw(only(*draws("low", LOW)), 20) is None


def with_value(runs: list[Any], key: str, value: Any) -> list[Any]:
    for content, _ in runs:
        content["spec"]["values"] = {**content["spec"]["values"], key: value}
    return runs


def test_at_100_percent_rows_of_sparse_labels_have_ranks_and_a_bound_has_none() -> None:
    low, high = (with_value(draws(name, values, ratio=100), "labels.glands", 0.25)
                 for name, values in (("low", LOW), ("high", HIGH)))  # fmt: skip
    group = only(*low, *high, *draws("bound", HIGH, ratio=100))
    rows = {row.partition(" (")[0] for row in group.sparse}
    assert rows == {"low", "high"} and [row.partition(" (")[0] for row in one(group).rows] == ["high", "low"]
    table = rank_table(group)
    assert table and "A row at 100 % of whole masks has no rank" in table.caption
    assert not rankings(only(*draws("low", LOW, ratio=100), *draws("bound", HIGH, ratio=100)))


def test_a_record_from_before_a_setting_was_added_is_named_as_one_with_its_neutral_value() -> None:
    older, newer = draws("alpha", LOW, MIDDLE)
    assert only(older, *with_value([newer], "labels.background", "scribbles")).rows == ("alpha",)
    assert len(only(older, *with_value([newer], "labels.background", "trusted")).rows) == 2
