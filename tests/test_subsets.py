"""Scores by what is known of the test images, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmark.report.subsets import subset_tables
from tests.test_report import native, only, record

GRADE = "test_groups_grade"


def run(method: str, tenths: list[int | None], fold: int = 0, **groups: list[str]) -> Any:
    """A finished run whose images have these Dice, in tenths (None: undefined), and are grouped so."""
    rows = [(0, 0, 0) if value is None else (value, 10 - value, 10 - value) for value in tenths]
    counts = native(*rows, patients="".join(chr(97 + i) for i in range(len(rows))))
    counts |= {f"test_groups_{name}": np.array(values) for name, values in groups.items()}
    return record(method, fold=fold, counts=counts)


def test_a_mean_for_each_value_by_hand() -> None:
    grade = ["bad", "good", "bad"]
    (table,) = subset_tables(only([run("alpha", [4, 9, 6], grade=grade), run("alpha", [6, 7, 8], 1, grade=grade)]))
    assert table.title == "Dice by grade, strict"
    assert list(table.header) == ["method", "labels", "bad (2 images)", "good (1 image)"]
    assert table.rows == [["alpha", "20 %", "60.00 ± 14.14 (n=2)", "80.00 ± 14.14 (n=2)"]]
    assert not table.notes


def test_undefined_missing_and_failed_are_told() -> None:
    grade = ["bad", "good", "bad"]
    lost = record("beta", fold=1, status="failed", reason="x")
    whole = [run("alpha", [4, None, None], grade=grade), run("alpha", [6, 7, 8], 1, grade=grade)]
    (table,) = subset_tables(only([*whole, run("beta", [5, None, 5], grade=grade), lost]))
    assert table.rows == [
        ["alpha", "20 %", "55.00 ± 21.21 (n=2)", "70.00 (1/2)"],
        ["beta", "20 %", "50.00 (1/2)", "– (0/2)"],
    ]
    assert table.notes[0].startswith("3 scores of single images are undefined")


def test_every_grouping_of_two_to_six_values_but_patients_has_a_table() -> None:
    images = [str(i) for i in range(7)]
    groups = {"set": [*"aaabbbb"], "same": ["x"] * 7, "slide": images, "grade": [*"abcdef", ""], "site": [*"abcdeee"]}
    tables = subset_tables(only([run("alpha", [5] * 7, **groups)]))
    assert [table.title for table in tables] == ["Dice by set, strict", "Dice by site, strict"]
    assert tables[1].header[-1] == "e (3 images)"
    few = subset_tables(only([run("alpha", [5, 5], grade=["", "good"])]))
    assert list(few[0].header[2:]) == ["good (1 image)", "unknown (1 image)"]
    assert subset_tables(only([record("alpha"), record("beta", status="failed")])) == []


def test_draws_with_test_images_of_their_own_give_their_range() -> None:
    runs = [run("alpha", [4, 6, 6], grade=["a", "b", "b"]), run("alpha", [8, 8], 1, grade=["a", "a"])]
    (table,) = subset_tables(only(runs))
    assert list(table.header[2:]) == ["a (1 to 2 images)", "b (0 to 2 images)"]
    assert table.rows == [["alpha", "20 %", "60.00 ± 28.28 (n=2)", "60.00 (1/2)"]]


def test_a_run_that_does_not_know_a_grouping_has_no_score_in_it() -> None:
    (table,) = subset_tables(only([run("alpha", [4, 6], grade=["a", "b"]), run("beta", [5, 5])]))
    assert table.rows[1] == ["beta", "20 %", "– (0/1)", "– (0/1)"]
    (table,) = subset_tables(only([run("alpha", [4, 6], grade=["a", "b"])]), "jaccard")
    assert table.title == "Jaccard by grade, strict" and table.rows[0][2:] == ["25.00 (n=1)", "42.86 (n=1)"]
