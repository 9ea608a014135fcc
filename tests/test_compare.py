"""Rows against each other, by hand: native counts (a, 10 - a, 10 - a) have a Dice of a / 10."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmark.report import stats
from benchmark.report.cells import Group, Wanted, group_experiment
from benchmark.report.compare import best, compare, difference_table, paired
from tests.test_report import native, only, record

NOTHING_THERE = (0, 0, 0)
PATIENTS = "ppqqrr"


def run(method: str, tenths: list[int | None], fold: int = 0, patients: str = PATIENTS, **other: Any) -> Any:
    """A finished run whose images have these Dice, in tenths; None is undefined."""
    rows = [NOTHING_THERE if value is None else (value, 10 - value, 10 - value) for value in tenths]
    return record(method, fold=fold, counts=native(*rows, patients=patients[: len(rows)]), **other)


def grouped(*records: Any, reference: str | None = "base") -> Group:
    return dataclasses.replace(only(list(records)), reference=reference)


def test_differences_by_hand() -> None:
    group = grouped(
        run("base", [5, 5, 5, 5, 5, 5]), run("base", [6, 6, 6, 6, 6, 6], 1),
        run("new", [6, 6, 7, 7, 8, 8]), run("new", [6, 8, 7, 9, 6, 6], 1),
    )  # fmt: skip
    found = compare(group, "new", "base", 20)
    assert found
    np.testing.assert_allclose(found.images.values, [0.05, 0.15, 0.15, 0.25, 0.15, 0.15])
    assert found.by_draw == {(0, 0): pytest.approx(0.2), (1, 0): pytest.approx(0.1)} and found.signs == "2/2 above"
    table = difference_table(group)
    assert table and len(table.rows) == 1
    label, ratio, difference, interval, signs, p, adjusted = table.rows[0]
    assert (label, ratio, difference, signs) == ("new", "20 %", "+15.00", "2/2 above")
    expected = stats.interval(found.images)
    assert expected and interval == f"[{100 * expected.low:+.2f}, {100 * expected.high:+.2f}]"
    assert interval == "[+10.00, +20.00]"  # patients' means are 10, 20 and 15: p three times, q three times
    assert p == adjusted == "0.2500"  # three patients, all above: 2 of 8 flips
    assert "the one difference" in table.caption and "3 patients resampled" in table.caption and "few" in table.caption
    assert not table.notes


def test_only_draws_that_both_have_are_compared() -> None:
    group = grouped(
        run("base", [5, 5]), run("base", [9, 9], 1), run("base", [1, 1], 2),
        run("new", [6, 6]), run("new", [10, 10], 3), record("new", fold=1, status="failed", reason="no memory"),
    )  # fmt: skip
    table = difference_table(group)
    assert table and table.rows[0][2:5] == ["+10.00", "–", "1/1 above"]  # one patient: no interval
    assert table.rows[0][5] == "1.0000" and any("one draw" in note for note in table.notes)


def test_pairs_are_of_common_draws_and_of_images_that_both_define() -> None:
    group = grouped(run("base", [5, None, 5]), run("base", [9, 9, 9], 1), run("new", [6, 7, 8]))
    ((draw, (ours, theirs)),) = paired(group, "new", "base", 20).items()
    assert draw == (0, 0) and ours.ids == theirs.ids == ("test_0", "test_2")
    np.testing.assert_allclose([ours.values, theirs.values], [[0.6, 0.8], [0.5, 0.5]])


def test_undefined_images_are_left_out_of_their_draw_alone() -> None:
    group = grouped(
        run("base", [5, None, 5]), run("base", [5, 5, 5], 1), run("new", [7, 7, None]), run("new", [7, 7, None], 1)
    )
    found = compare(group, "new", "base", 20)
    assert found and found.images.ids == ("test_0", "test_1")
    np.testing.assert_allclose(found.images.values, [0.2, 0.2])
    empty = grouped(run("base", [None, 5]), run("new", [5, None]))
    assert compare(empty, "new", "base", 20) is None and difference_table(empty) is None


def test_equal_draws_are_neither_above_nor_below() -> None:
    group = grouped(
        run("base", [5, 5, 5]), run("base", [5, 5, 5], 1), run("new", [5, 5, 5]), run("new", [4, 6, 6], 1)
    )
    found = compare(group, "new", "base", 20)
    assert found and found.signs == "1/2 above, 1/2 equal"
    same = difference_table(grouped(run("base", [5, 5, 5]), run("new", [5, 5, 5])))
    assert same and same.rows[0][2:4] == ["+0.00", "[+0.00, +0.00]"] and same.rows[0][5] == "1.0000"


def test_the_family_is_every_row_at_every_ratio_and_is_named() -> None:
    group = grouped(
        *(run("base", [1, 1, 1, 1, 1, 1], patients="abcdef", ratio=ratio) for ratio in (10, 20)),
        *(run("new", [2, 3, 4, 5, 6, 7], patients="abcdef", ratio=ratio) for ratio in (10, 20)),
        run("odd", [0, 2, 1, 1, 1, 1], patients="abcdef"),
    )
    table = difference_table(group)
    assert table and [row[:2] for row in table.rows] == [["new", "10 %"], ["new", "20 %"], ["odd", "20 %"]]
    assert [row[5] for row in table.rows] == ["0.0312", "0.0312", "1.0000"]  # 2 of 64 flips
    assert [row[6] for row in table.rows] == ["0.0938", "0.0938", "1.0000"]  # three times, two times, monotone
    assert "all 3 differences" in table.caption and "no p is below 0.0312" in table.caption
    assert any("below 0.0938" in note and "no difference at the 5 % level" in note for note in table.notes)
    assert any("at 10 % odd" in note for note in table.notes)


def test_what_cannot_be_compared_is_told() -> None:
    lost = record("lost", status="diverged", reason="nan")
    group = grouped(run("base", [5, 5]), run("new", [6, 6]), lost)
    table = difference_table(group)
    assert table and len(table.rows) == 1 and "at 20 % lost" in table.notes[-1]
    assert difference_table(grouped(run("base", [5, 5]), run("new", [6, 6]), reference=None)) is None
    assert difference_table(grouped(run("base", [5, 5]), lost)) is None


def test_a_bound_that_an_experiment_wants_at_another_ratio_is_not_compared_at_this_one() -> None:
    made = [run("base", [5, 5]), run("new", [6, 6]), run("base", [7, 7], ratio=100)]
    rows = ["lower", "new", "upper"]
    wanted = [Wanted(row, r["run_id"], r["spec"]) for row, (r, _) in zip(rows, made, strict=True)]
    (group,) = group_experiment("mine", made, wanted, reference="lower")
    table = difference_table(group)
    assert table and [row[0] for row in table.rows] == ["new"]
    assert table.notes[-1].endswith("with lower: at 100 % upper.")


# The row in bold


def draws(method: str, *tenths: list[int | None], patients: str = PATIENTS, start: int = 0) -> list[Any]:
    return [run(method, values, start + fold, patients) for fold, values in enumerate(tenths)]


def test_the_best_is_above_the_runner_up_in_every_draw_and_beyond_chance() -> None:
    low, high = [5, 5, 5, 5, 5, 5], [7, 7, 8, 8, 6, 6]
    assert best(grouped(*draws("a", high, high), *draws("b", low, low)), 20) == "a"
    assert best(grouped(*draws("a", low, low), *draws("b", high, high), *draws("c", [1] * 6, [1] * 6)), 20) == "b"
    assert best(grouped(*draws("a", high, high), *draws("b", low, low)), 20, metric="jaccard") == "a"


def test_no_row_is_best_without_a_reason() -> None:
    low, high, mixed = [5, 5, 5, 5, 5, 5], [7, 7, 8, 8, 6, 6], [9, 9, 9, 9, 4, 4]
    slightly_below = [5, 5, 5, 5, 5, 4]
    assert best(grouped(*draws("a", mixed, mixed), *draws("b", low, low)), 20) is None  # one patient is below
    assert best(grouped(*draws("a", high, slightly_below), *draws("b", low, low)), 20) is None  # one draw is below
    assert best(grouped(*draws("a", low, low), *draws("b", low, low)), 20) is None  # a tie
    assert best(grouped(*draws("a", high), *draws("b", low)), 20) is None  # one draw
    assert best(grouped(*draws("a", high, high)), 20) is None  # no runner-up
    assert best(grouped(*draws("a", high, high), *draws("b", low, low, low)), 20) is None  # a draw is missing
    assert best(grouped(*draws("a", high, high), *draws("b", low, low, start=5)), 20) is None  # no common draw
    one_patient = [draws(name, values, values, patients="pppppp") for name, values in (("a", high), ("b", low))]
    assert best(grouped(*one_patient[0], *one_patient[1]), 20) is None
    assert best(grouped(*draws("a", high, high), *draws("b", low, low)), 10) is None  # nothing there
    assert best(grouped(*draws("a", high, high), *draws("b", low, low)), 20, "paper") is None


def test_failed_and_undefined_runs_do_not_stand_in_the_way_of_the_best() -> None:
    first, second = draws("a", [7, 7, 8, 8, 6, 6], [7, 7, 8, 8, 6, None]), draws("b", [5] * 6, [5] * 6)
    others = [record("c", status="failed", reason="x"), *draws("d", [None] * 6, [None] * 6)]
    assert best(grouped(*first, *second, *others), 20) == "a"


def test_the_runner_up_with_fewer_draws_is_compared_in_those() -> None:
    high, low = [7, 7, 8, 8, 6, 6], [5, 5, 5, 5, 5, 5]
    assert best(grouped(*draws("a", high, high, high), *draws("b", low, low)), 20) == "a"


def test_several_records_of_one_draw_count_once() -> None:
    twice = record("new", seed=0, counts=native((8, 2, 2), (8, 2, 2), patients="pq"), values={"x": 1})
    twice[0]["spec"]["values"] = {}
    twice[0]["run_id"] = "another"
    group = grouped(run("base", [5, 5], patients="pq"), run("new", [6, 6], patients="pq"), twice)
    found = compare(group, "new", "base", 20)
    assert found and found.by_draw == {(0, 0): pytest.approx(0.2)}
