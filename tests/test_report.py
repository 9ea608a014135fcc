"""The report's frames, tables and files against hand calculations on records made by hand."""

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import UserError
from benchmark.report.build import build
from benchmark.report.compare import gap_table, protocol_gaps, waterfall_table
from benchmark.report.gather import check_records, group_runs, warnings_of
from benchmark.report.render import escape_markdown as escape
from benchmark.report.results_frame import Group
from benchmark.report.tables import (
    EVERYTHING,
    error_table,
    failure_table,
    object_table,
    score_cells,
    score_table,
    subset_tables,
)
from benchmark.runs.run_files import write_record
from tests.conftest import invoke, one_line_error
from tests.made_records import a_thousand_records, expected, made_counts, native, of_experiment, only, record, tenths


def made(results: Path, protocol: str = "strict") -> Any:
    """A report of all records in a results folder."""
    return build(group_runs(check_records(results)), results, "the command", protocol, ("md",))


def texts(group: Group, ratio: int = 20, protocol: str = "strict") -> dict[str, str]:
    """The cells of a column by row."""
    return {row: text for (row, at), text in score_cells(group, protocol).items() if at == ratio}


# Frames


def test_frames_have_a_line_for_everything_that_was_counted() -> None:
    group = only(record(), record("beta", fold=1), record("beta", fold=2, status="failed", reason="x"))
    strict = group.scores[(group.scores.protocol == "strict") & (group.scores.metric == "dice")]
    assert list(zip(strict.row, strict.fold, strict.value, strict=True)) == [
        (run.row, run.spec["fold"], run.scores["strict"]["dice"]) for run in group.runs if run.done
    ]
    assert len(group.images) == 12 and group.images.dice.mean() == pytest.approx(strict.value.mean())
    assert set(group.images.unit) == {"patient p0", "patient p1", "patient p2"} and group.subsets == []
    cells = group.cell_scores().loc["beta", 20]
    assert (cells.n, cells.expected, cells.finished, cells.states) == (1, 3, 1, ["failed"])
    assert list(group.by_image("beta", 20).columns) == [(1, 0)] and group.by_image("beta", 10).empty


# Tables


def test_cells_by_hand() -> None:
    draws = [native((8, 2, 2), (6, 4, 4)), native((9, 1, 1), (7, 3, 3)), native((5, 5, 5), (5, 5, 5))]  # .7, .8, .5
    whole = [record("alpha", fold=fold, counts=counts) for fold, counts in enumerate(draws)]
    part = [record("beta", fold=fold, counts=counts) for fold, counts in enumerate(draws[:2])]
    lost = record("beta", fold=2, status="diverged", reason="'supervised' was nan at step 7 of 60")
    declined = [record("gamma", fold=fold, status="skipped", reason="needs unlabelled images") for fold in range(3)]
    group = only(*whole, *part, lost, *declined)
    cells = texts(group)
    assert cells["alpha"].startswith("66.67 ± 15.28 (n=3) [") and cells["beta"].startswith("75.00 ± 7.07 (2/3) [")
    assert cells["gamma"] == "skipped (0/3)"
    failures = failure_table(group)
    assert failures and [row[5] for row in failures.rows].count("needs unlabelled images") == 3
    assert ["beta", "20 %", "2", "0", "diverged", "'supervised' was nan at step 7 of 60"] in list(failures.rows)
    assert score_table(group, "strict").header == ["method", "20 % (17+68)"]
    low, high = (float(value) for value in cells["alpha"].split("[")[1].rstrip("]").split(", "))
    assert (low, high) == pytest.approx((60.0, 73.33), abs=0.01)  # two images, .7333 and .6


def test_one_run_only_has_no_spread_and_pooled_protocols_no_interval() -> None:
    group = only(record(counts=native((8, 2, 2), patients="p")))
    assert texts(group) == {"alpha": "80.00 (n=1)"} and failure_table(group) is None
    group = only(record(counts=made_counts(validation=False)))
    assert "[" not in texts(group, protocol="paper")["alpha"]
    assert texts(group, protocol="validation") == {"alpha": "no score (0/1)"}
    assert "No interval" in score_table(group, "paper").caption
    assert "no validation images" in score_table(group, "validation").notes[0]


def test_no_model_at_all_has_a_row() -> None:
    counts = native((10, 5, 6), (0, 0, 64)) | {"test_pixels": np.array([64, 64])}
    assert list(score_table(only(record(counts=counts)), "strict").rows[-1]) == [EVERYTHING, "70.00"]
    del counts["test_pixels"]
    assert len(score_table(only(record(counts=counts)), "strict").rows) == 1


def test_precision_and_recall_by_hand() -> None:
    """Of 10 predicted pixels 8 are right, then 1 of 4; of true ones 8 of 16 and 1 of 1 are found."""
    table = error_table(only(record(counts=native((8, 2, 8), (1, 3, 0))), record(fold=1, status="failed")))
    assert table.rows == [["alpha", "20 %", "52.50 (1/2)", "75.00 (1/2)"]]


def test_object_scores_by_hand() -> None:
    counts = made_counts(images=2) | {"test_objects": np.array([[1, 1, 4], [0, 0, np.inf]])}
    counts["test_surface"] = np.array([[3, 1], [np.nan, np.nan]])
    table = object_table(only(record(counts=counts)))
    assert table and table.rows[0][2:] == ["50.00 (n=1)", "50.00 (n=1)", "4.00 (n=1)", "3.00 (n=1)", "1.00 (n=1)"]
    assert "3 single values" in table.notes[0]


def test_the_printed_waterfall_adds_up() -> None:
    group = only(*(record(fold=fold, counts=made_counts(fold)) for fold in range(3)))
    table = waterfall_table(group)
    assert table
    first, *changes, last = (Fraction(cell) for cell in table.rows[0][2:])
    assert first + sum(changes) == last
    gap = gap_table(group).rows[0]
    assert Fraction(gap[4]) - Fraction(gap[2]) == Fraction(gap[5]) and Fraction(gap[4]) == first


def test_the_gap_takes_the_runs_that_have_every_score_and_says_how_many_have_not() -> None:
    lacking = {key: value for key, value in made_counts(7).items() if key != "test_pooled"}
    records = [record("alpha", fold=fold, counts=made_counts(fold)) for fold in range(3)]
    records += [record("beta", fold=0), record("beta", fold=1, counts=lacking)]
    records += [record("beta", fold=2, counts=made_counts(2, validation=False))]
    records += [record("alpha", 100, counts=made_counts(validation=False)), record("gamma", counts=lacking)]
    group = only(*records)
    table, steps = gap_table(group), waterfall_table(group)
    assert steps and [row[0] for row in table.rows] == ["alpha", "alpha", "beta (1/3)"] == [r[0] for r in steps.rows]
    assert [(row[2], row[-1]) for row in steps.rows] == [(row[4], row[2]) for row in table.rows]
    assert table.rows[1][3] == "–" and table.rows[2][2:5] == gap_table(only(record("beta"))).rows[0][2:5]
    note = "3 finished runs are left out: a score under one of the protocols is lacking."
    assert list(table.notes) == list(steps.notes) == [note] and sum(gap.n for gap in protocol_gaps(group)) == 5
    assert "mean over 1 to 3 draws (after a name k/n" in table.caption
    assert not gap_table(only(record())).notes and "mean over 1 draw." in gap_table(only(record())).caption


def test_subsets_of_the_test_images_by_hand() -> None:
    grade = {"grade": ["bad", "good", "bad"], "same": ["x"] * 3, "slide": ["1", "1", "2"]}  # of different patients
    lost = record("beta", fold=1, status="failed", reason="x")
    runs = [tenths("alpha", [4, None, None], known=grade), tenths("alpha", [6, 7, 8], 1, known=grade)]
    runs += [tenths("beta", [5, None, 5], known=grade), tenths("gamma", [5, 5, 5])]
    (table,) = subset_tables(only(*runs, lost))
    assert table.title == "Dice by grade, strict"
    assert table.header[2:] == ["bad (2 images, 2 patients)", "good (1 image, 1 patient)"]
    assert table.rows == [
        ["alpha", "20 %", "55.00 ± 21.21 (n=2)", "70.00 (1/2)"], ["beta", "20 %", "50.00 (1/2)", "– (0/2)"],
        ["gamma", "20 %", "– (0/2)", "– (0/2)"],
    ]  # fmt: skip
    assert table.notes[0].startswith("3 scores of single images are undefined")
    apart = [tenths("alpha", [4, 6, 6], known={"site": ["a", "b", ""]}), tenths("alpha", [8], 1, known={"site": ["a"]})]
    (table,) = subset_tables(only(*apart))
    none = "0 to 1 images, 0 to 1 patients"
    assert table.header[2:] == ["a (1 image, 1 patient)", f"b ({none})", f"unknown ({none})"]
    assert table.title == "Dice by site, strict" and table.rows[0][3] == "60.00 (1/2)"
    assert subset_tables(only(record("alpha"), record("beta", status="failed"))) == []
    people = {"site": ["a", "a", "b"], "patient": ["1", "1", "2"]}
    several = [tenths("alpha", [4, 6, 6], known=people), tenths("beta", [8], known={"site": ["a"], "patient": ["1"]})]
    (table,) = subset_tables(only(*several))
    assert table.header[2:] == ["a (1 to 2 images, 1 patient)", "b (0 to 1 images, 0 to 1 patients)"]
    taken = {name: ["a", "b", "c"] for name in ("fold", "seed", "row", "ratio", "unit", "image", "dice", "run_id")}
    plain, named = (only(tenths("alpha", [4, 6, 6], known=known)) for known in ({}, taken))
    assert named.images.equals(plain.images) and subset_tables(named) == []  # a table of groups may have such columns
    people["patient"][1] = ""  # of one image it is not known
    (table,) = subset_tables(only(tenths("alpha", [4, 6, 6], known=people)))
    assert table.header[2:] == ["a (2 images)", "b (1 image, 1 patient)"]


def test_what_is_annotated_is_said_of_every_table_once_where_a_reader_sees_all(tmp_path: Path) -> None:
    values = {"labels.glands": 0.25, "labels.background": "none", "labels.erode": 0.0}
    sparse, counts = record(values=values)
    sparse["data"]["annotation"] = {"glands": 1, "of": 4, "pixels": 0.125}
    build([only((sparse, counts))], tmp_path, "the command", formats=("md", "tex", "html"))
    said = "labels.glands=0.25 with background none: 25.0 % of the glands, 12.5 % of the pixels."
    (text,), (latex,), (page,) = ([path.read_text() for path in tmp_path.glob(f"*/*.{kind}")]
                                  for kind in ("md", "tex", "html"))
    assert text.count(said) == page.count(said) == 1 and text.index(said) < text.index("###")
    assert latex.count(said.replace("%", r"\%")) == latex.count(r"\begin{table}") > 3


# Groups


def test_an_experiment_names_and_orders_its_rows_and_says_what_is_missing() -> None:
    first, second = record("zeta", fold=0), record("alpha", fold=0)
    plan = [expected("last letter", first[0])]
    plan += [expected("last letter", first[0], fold=fold, run_id=f"x{fold}", missing="missing") for fold in (1, 2)]
    plan += [expected("nobody", second[0], run_id="y", missing="excluded", reason="it never ends")]
    plan += [expected("old", second[0], run_id="z", missing="stale", reason="other code"), expected("alpha", second[0])]
    (group,) = of_experiment([first, second], plan, "alpha")
    assert group.rows == ("last letter", "nobody", "old", "alpha") and group.name == "mine"
    cells = [text.split(" [")[0] for text in texts(group).values()]
    assert cells[0].endswith("(1/3)") and cells[1:3] == ["excluded (0/1)", "stale (0/1)"] and "n=1" in cells[3]
    assert [row[-2:] for row in failure_table(group).rows] == [["excluded", "it never ends"], ["stale", "other code"]]
    (part,) = of_experiment([second], plan[-1:], only={"ratio": ["20"]})
    assert (part.name, part.title) == ("mine-ratio_20", "mine: made, split official, preset quick, ratio 20 only")
    (part,) = of_experiment([second], plan[-1:], only={"ratio": ["10", "20"], "draw": ["0"]})
    assert part.name == "mine-ratio_10_20-draw_0" and part.title.endswith(", ratio 10 and 20 only, draw 0 only")


def test_an_experiment_of_two_data_sets_has_a_group_each_and_strange_data_another() -> None:
    here, there = record(), record(dataset="elsewhere", run_id="there")
    more, odd = record(fold=2, run_id="more"), record(fold=1, fingerprint="e" * 64)
    groups = of_experiment([here, more, odd, there], [expected("one", each[0]) for each in (here, more, odd, there)])
    assert [group.name for group in groups] == ["mine-made", "mine-made-eeeeeeee", "mine-elsewhere"]
    assert [len(group.runs) for group in groups] == [2, 1, 1] and groups[0].other_data_count == 1


def test_other_settings_are_other_rows_and_the_presets_own_have_the_methods_plain_name() -> None:
    records = [record(values={"method.decay": decay, "train.steps": 60}) for decay in (0.9, 0.999)]
    assert only(*records).rows == ("alpha (method.decay=0.9)", "alpha (method.decay=0.999)")
    settings = [{"method.decay": 0.99, "method.weight": 5.0}, {"method.decay": 0.9, "method.weight": 5.0}]
    group = only(*(record("mean_teacher", values=values) for values in settings))
    assert group.rows == ("mean_teacher", "mean_teacher (method.decay=0.9)")
    assert [group.display(row) for row in group.rows] == ["Mean Teacher", "Mean Teacher (method.decay=0.9)"]
    assert [row[0] for row in score_table(group, "paper").rows] == ["Mean Teacher", "Mean Teacher (method.decay=0.9)"]
    names = [group.name for group in group_runs([record(), record(fold=1, fingerprint="e" * 64)])]
    assert names == ["made-official-quick-eeeeeeee", "made-official-quick-ffffffff"]


def test_records_that_do_not_belong_together_are_told() -> None:
    assert warnings_of(only(record(), record("beta"))) == []
    mixed = [
        record(), record("beta", numerics={"engine": 2, "method": 1}),
        record(fold=1, numerics={"engine": 1, "method": 5}),
        record("gamma", data={"fingerprint": "f" * 64, "split_fingerprint": "other"}),
        record("delta", scores={"strict": {"dice": 0.99}}), record(),
    ]  # fmt: skip
    told = " ".join(warnings_of(only(*mixed)))
    for words in ("of the engine", "of the method", "different lists", "not those of its counts", "several records"):
        assert words in told


def test_the_caption_says_which_processor_made_which_draws() -> None:
    def on(fold: int, stepping: str, method: str = "alpha") -> Any:
        processor = {"family": "6", "model": "167", "stepping": stepping}
        return record(method, fold=fold, environment={"device": "a CPU", "processor": processor})

    def caption(*records: Any) -> str:
        return score_table(only(*records), "strict").caption

    assert caption(on(0, "1"), on(1, "1")).endswith(" Made on a CPU (6/167/1).")
    apart = caption(on(0, "1"), on(1, "2"), on(1, "2", "beta"))
    assert apart.endswith(" Made on a CPU (6/167/1) for 20 % draw 0; a CPU (6/167/2) for 20 % draw 1.")
    mixed = on(0, "1"), on(0, "2", "beta")
    assert "Made on" not in caption(*mixed) and "2 models of a device" in warnings_of(only(*mixed))[0]
    assert "Made on" not in caption(record())  # an old record knows the brand alone


# The whole


def test_a_thousand_records_are_reported_in_seconds(tmp_path: Path) -> None:
    group = a_thousand_records()
    begun = time.process_time()
    report = build([group], tmp_path, "the command", formats=("md", "tex", "csv", "html"))
    assert len(report.paths) == 4 and time.process_time() - begun < 10  # figures are in docs/performance.md
    assert report.paths[-1].suffix == ".html" and report.paths[-1].stat().st_size < 3_000_000


def write(results: Path, records: list[Any]) -> None:
    for content, counts in records:
        write_record(results / "records", content, counts or None)


def test_same_records_give_the_same_text(tmp_path: Path) -> None:
    records = [record(name, fold=fold, counts=made_counts(fold)) for name in ("alpha", "beta") for fold in range(3)]
    found = []
    for folder, order in (("one", records), ("two", records[::-1])):
        write(tmp_path / folder, order)
        report = made(tmp_path / folder)
        found.append(report.text)
        assert report.paths == [tmp_path / folder / "tables" / "made-official-quick.md"]
        assert report.paths[0].read_text(encoding="utf-8") == report.text
    assert found[0] == found[1] and str(tmp_path) not in found[0]
    assert made(tmp_path / "one", "paper").paths[0].name == "made-official-quick-paper.md"


def test_devices_do_not_share_a_cost_table(tmp_path: Path) -> None:
    write(tmp_path, [record(), record("beta", device="a GPU")])
    text = made(tmp_path).text
    assert "1 on a CPU, 1 on a GPU" in text
    assert "### Cost on a CPU" in text and "### Cost on a GPU" in text and "1,234,567" in text


def test_names_are_escaped(tmp_path: Path) -> None:
    write(tmp_path, [record("<script>|x_y*`\n", reason="a|b"), record("bad", status="failed", reason="x | <b>\n\ny")])
    text = made(tmp_path).text
    assert "<" not in text and r"&lt;script&gt;\|x_y\*\`" in text and r"x \| &lt;b&gt; y" in text
    assert escape("[a](b) [1, 2] _so_ a_b \\") == r"[a\](b) [1, 2] \_so\_ a_b \\"


def test_user_errors(tmp_path: Path) -> None:
    assert "no records to report" in one_line_error(invoke("report", "--results", tmp_path))
    assert "no records of experiment demo" in one_line_error(invoke("report", "demo", "--results", tmp_path))
    assert "Did you mean 'demo'" in one_line_error(invoke("report", "dmeo", "--results", tmp_path))
    write(tmp_path, [record()])
    with pytest.raises(UserError, match="Did you mean 'strict'"):
        made(tmp_path, "strikt")
    assert "unknown format 'doc'" in one_line_error(invoke("report", "--format", "md,doc", "--results", tmp_path))
