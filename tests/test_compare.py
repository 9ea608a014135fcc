"""Rows against each other, by hand: native counts (a, 10 - a, 10 - a) have a Dice of a / 10."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.report import stats
from benchmark.report.compare import best, compare, difference_table, resampled_units, signs
from benchmark.report.results_frame import Group
from benchmark.report.tables import score_table
from tests.made_records import expected, native, of_experiment, only, record, tenths


def grouped(*records: Any) -> Group:
    return only(*records, reference="base")


def test_differences_by_hand() -> None:
    group = grouped(
        tenths("base", [5, 5, 5, 5, 5, 5]), tenths("base", [6, 6, 6, 6, 6, 6], 1),
        tenths("new", [6, 6, 7, 7, 8, 8]), tenths("new", [6, 8, 7, 9, 6, 6], 1),
    )  # fmt: skip
    found = compare(group, "new", "base", 20)
    np.testing.assert_allclose(found.mean(axis=1), [0.05, 0.15, 0.15, 0.25, 0.15, 0.15])
    assert dict(found.mean()) == {(0, 0): pytest.approx(0.2), (1, 0): pytest.approx(0.1)}
    assert signs(found) == "2/2 above"
    table = difference_table(group)
    assert table and len(table.rows) == 1
    label, ratio, difference, interval, above, p, adjusted = table.rows[0]
    assert (label, ratio, difference, above) == ("new", "20 %", "+15.00", "2/2 above")
    bounds = stats.interval(found.mean(axis=1))
    assert bounds and interval == f"[{100 * bounds.low:+.2f}, {100 * bounds.high:+.2f}]"
    assert interval == "[+10.00, +20.00]"  # patients' means are 10, 20 and 15: p three times, q three times
    assert p == adjusted == "0.2500"  # three patients, all above: 2 of 8 flips
    assert "the one difference" in table.caption and "3 patients resampled" in table.caption and "few" in table.caption
    assert not table.notes


def test_only_draws_that_both_have_are_compared() -> None:
    group = grouped(
        tenths("base", [5, 5]), tenths("base", [9, 9], 1), tenths("base", [1, 1], 2),
        tenths("new", [6, 6]), tenths("new", [10, 10], 3), record("new", fold=1, status="failed", reason="no memory"),
    )  # fmt: skip
    table = difference_table(group)
    assert table and table.rows[0][2:5] == ["+10.00", "–", "1/1 above"]  # one patient: no interval
    assert table.rows[0][5] == "1.0000" and any("one draw" in note for note in table.notes)


def test_undefined_images_are_left_out_of_their_draw_alone() -> None:
    group = grouped(
        tenths("base", [5, None, 5]), tenths("base", [5, 5, 5], 1), tenths("new", [7, 7, None]),
        tenths("new", [7, 7, None], 1),
    )  # fmt: skip
    found = compare(group, "new", "base", 20)
    assert list(found.index.get_level_values("image")) == ["test_0", "test_1"]
    np.testing.assert_allclose(found.mean(axis=1), [0.2, 0.2])
    empty = grouped(tenths("base", [None, 5]), tenths("new", [5, None]))
    assert compare(empty, "new", "base", 20).empty and difference_table(empty) is None


def test_equal_draws_are_neither_above_nor_below() -> None:
    bases = tenths("base", [5, 5, 5]), tenths("base", [5, 5, 5], 1)
    group = grouped(*bases, tenths("new", [5, 5, 5]), tenths("new", [4, 6, 6], 1))
    assert signs(compare(group, "new", "base", 20)) == "1/2 above, 1/2 equal"
    same = difference_table(grouped(tenths("base", [5, 5, 5]), tenths("new", [5, 5, 5])))
    assert same and same.rows[0][2:4] == ["+0.00", "[+0.00, +0.00]"] and same.rows[0][5] == "1.0000"


def test_the_family_is_every_row_at_every_ratio_and_is_named() -> None:
    group = grouped(
        *(tenths("base", [1, 1, 1, 1, 1, 1], patients="abcdef", ratio=ratio) for ratio in (10, 20)),
        *(tenths("new", [2, 3, 4, 5, 6, 7], patients="abcdef", ratio=ratio) for ratio in (10, 20)),
        tenths("odd", [0, 2, 1, 1, 1, 1], patients="abcdef"),
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
    table = difference_table(grouped(tenths("base", [5, 5]), tenths("new", [6, 6]), lost))
    assert table and len(table.rows) == 1 and "at 20 % lost" in table.notes[-1]
    assert difference_table(only(tenths("base", [5, 5]), tenths("new", [6, 6]))) is None
    assert difference_table(grouped(tenths("base", [5, 5]), lost)) is None
    made = [tenths("base", [5, 5]), tenths("new", [6, 6]), tenths("base", [7, 7], ratio=100)]
    plan = [expected(row, r) for row, (r, _) in zip(("lower", "new", "upper"), made, strict=True)]
    table = difference_table(of_experiment(made, plan, "lower")[0])
    assert table and [row[0] for row in table.rows] == ["new"]  # a bound at another ratio is not compared at this one
    assert table.notes[-1].endswith("with lower: at 100 % upper.")


# The row in bold


LOW, HIGH, MIXED = [5] * 6, [7, 7, 8, 8, 6, 6], [9, 9, 9, 9, 4, 4]


def draws(method: str, *values: list[int | None], patients: str = "ppqqrr", start: int = 0) -> list[Any]:
    return [tenths(method, each, start + fold, patients) for fold, each in enumerate(values)]


def test_the_best_is_above_each_other_row_in_every_draw_and_beyond_chance() -> None:
    assert best(grouped(*draws("a", HIGH, HIGH), *draws("b", LOW, LOW)), 20) == "a"
    assert best(grouped(*draws("a", LOW, LOW), *draws("b", HIGH, HIGH), *draws("c", [1] * 6, [1] * 6)), 20) == "b"
    assert best(grouped(*draws("a", HIGH, HIGH), *draws("b", LOW, LOW)), 20, metric="jaccard") == "a"
    assert best(grouped(*draws("a", HIGH, HIGH, HIGH), *draws("b", LOW, LOW)), 20) == "a"  # in the draws of both
    others = [record("c", status="failed", reason="x"), *draws("d", [None] * 6, [None] * 6)]
    undefined = draws("a", HIGH, [7, 7, 8, 8, 6, None])
    assert best(grouped(*undefined, *draws("b", LOW, LOW), *others), 20) == "a"  # others do not stand in the way


@pytest.mark.parametrize(("first", "second", "why"), [
    (draws("a", MIXED, MIXED), draws("b", LOW, LOW), "one patient is below"),
    (draws("a", HIGH, [5, 5, 5, 5, 5, 4]), draws("b", LOW, LOW), "one draw is below"),
    (draws("a", HIGH, HIGH), [*draws("b", [6] * 6, [6] * 6), *draws("c", [9, 9, 4, 4, 3, 3], [9, 9, 4, 4, 3, 3])],
     "one patient is below the third row"),
    (draws("a", LOW, LOW), draws("b", LOW, LOW), "a tie"),
    (draws("a", HIGH), draws("b", LOW), "one draw"),
    (draws("a", HIGH, HIGH), [], "no other row"),
    (draws("a", HIGH, HIGH), draws("b", LOW, LOW, LOW), "a draw is missing"),
    (draws("a", HIGH, HIGH), draws("b", LOW, LOW, start=5), "no common draw"),
    (draws("a", HIGH, HIGH, patients="pppppp"), draws("b", LOW, LOW, patients="pppppp"), "one patient"),
])  # fmt: skip
def test_no_row_is_best_without_a_reason(first: Any, second: Any, why: str) -> None:
    assert best(grouped(*first, *second), 20) is None, why


def test_the_caption_says_what_bold_asks_for() -> None:
    table = score_table(grouped(*draws("a", HIGH), *draws("b", LOW)), "strict")
    assert "Bold: with two or more draws, none missing" in table.caption


def test_no_row_is_best_where_nothing_is_or_under_a_pooled_protocol() -> None:
    group = grouped(*draws("a", HIGH, HIGH), *draws("b", LOW, LOW))
    assert best(group, 10) is None and best(group, 20, "paper") is None


@pytest.mark.parametrize(("units", "words"), [
    (["patient 1", "patient 1", *(f"image {k}" for k in range(5))], "1 patient and 5 images of unknown patients"),
    (["image 1", "image 2"], "images (no patients are known) resampled 2,000 times (few"),
    ([f"patient {k}" for k in range(6)], "6 patients resampled 2,000 times"),
])  # fmt: skip
def test_the_caption_says_what_is_resampled_and_where_that_is_little(units: list[str], words: str) -> None:
    told = resampled_units(SimpleNamespace(images=pd.DataFrame({"unit": units})))
    assert words in told and ("few" in told) == (len(set(units)) < 6)


@pytest.mark.parametrize(("known", "units"), [
    ({"patient": ["p", "p", "NA", "NA", "-", "-"]}, 5),  # names that say nothing
    ({"patient": [""] * 6, "slide": ["s1"] * 3 + ["s2"] * 3}, 2),  # a slide counts as the patient
    ({"patient": ["p", "", "", "q", "q", ""], "slide": ["1", "1", "1", "2", "2", "2"]}, 2),  # of the slide's patient
])  # fmt: skip
def test_intervals_resample_the_patients_that_the_splits_keep_apart(known: dict[str, list[str]], units: int) -> None:
    group = grouped(tenths("base", [5] * 6, known=known))
    found = stats.interval(group.by_image("base", 20).mean(axis=1))
    assert found.units == group.images.unit.nunique() == units


def test_several_records_of_one_draw_count_once() -> None:
    twice = record("new", counts=native((8, 2, 2), (8, 2, 2), patients="pq"), run_id="another")
    group = grouped(tenths("base", [5, 5], patients="pq"), tenths("new", [6, 6], patients="pq"), twice)
    assert dict(compare(group, "new", "base", 20).mean()) == {(0, 0): pytest.approx(0.2)}
