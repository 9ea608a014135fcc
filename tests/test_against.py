"""Published numbers beside ours, by hand."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import UserError
from benchmark.registry import METHODS
from benchmark.report import published
from benchmark.report.published import Comparison, against
from benchmark.report.results_frame import Group
from benchmark.runs.experiment import read_experiment
from tests.made_records import expected, made_counts, of_experiment, only, record

SETUP = {"data.size": 256, "train.epochs": 200}
INDEX = """\
source: Somebody 2025
setup:
  split: {split: official}
  image size: {data.size: 256}
  epochs: {train.epochs: 200}
unpublished: the seeds
quantities:
  dice: {title: Dice (%), value: scores.dice, factor: 100, tolerance: 1}
  jaccard: {title: Jaccard (%), value: scores.jaccard, factor: 100, tolerance: 1}
  parameters: {title: parameters (M), value: cost.parameters_trained, factor: 1e-6, tolerance: 0.5}
  memory:
    {title: memory (GiB), value: cost.peak_memory_bytes, factor: 1e-9, by_device: true, not_compared: nobody knows how}
tables:
  scores: {title: Table 1, about: made, protocol: paper, copied: {theirs: copied from them}, notes: [a note]}
  cost: {title: Table 3}
"""
HEADER = "dataset,row,ratio,dice,dice_sd,dice_note\n"
ELSEWHERE = HEADER + "elsewhere,theirs,20,50,,\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """configs/paper with two tables; a test writes their cells."""
    (tmp_path / "tables.yaml").write_text(INDEX)
    (tmp_path / "scores.csv").write_text(ELSEWHERE + "made,alpha,20,60.00,1.00,\n")
    (tmp_path / "cost.csv").write_text("row,parameters,memory\nalpha,1,15.71\nbeta,3,\n")
    return tmp_path


def run(method: str, percent: float, fold: int = 0, values: dict[str, Any] | None = None, **other: Any) -> Any:
    """A finished run whose pooled Dice is best with this value, at its second evaluation."""
    counts = made_counts()
    pixels = round(100 * percent)
    counts["test_pooled"] = np.broadcast_to([0, 1, 1], counts["test_pooled"].shape).copy()
    counts["test_pooled"][1, 0, 30] = [pixels, 10_000 - pixels, 10_000 - pixels]
    made, _ = record(method, fold=fold, counts=counts, values=SETUP if values is None else values, **other)
    return made, counts


def against_table(folder: Path, table: str, group: Group) -> Comparison:
    """The group against a table of the folder."""
    return against(dataclasses.replace(group, published=table), folder)


def rows(folder: Path, cells: str, *records: Any) -> tuple[list[Any], int, int]:
    (folder / "scores.csv").write_text(ELSEWHERE + cells)
    found = against_table(folder, "scores", only(*records))
    return [list(row) for row in found.table.rows], found.compared, found.differing


def test_differences_by_hand(folder: Path) -> None:
    ours = [run("alpha", percent, fold) for fold, percent in enumerate((60.0, 62.0, 64.0))]  # 62 +- 2
    cells = "made,alpha,20,66.40,1.00,\nmade,alpha,10,50,,\nother,alpha,20,1,,\n"
    found, compared, differing = rows(folder, cells, *ours)
    assert found[0][:5] == ["alpha", "20 %", "Dice (%)", "66.40 ± 1.00", "62.00 ± 2.00 (n=3)"]
    assert found[0][5:] == ["-4.40", "4.47", "as published", "agrees"]  # 2 sqrt(1 + 4) = 4.47
    assert found[1] == ["alpha", "10 %", "Dice (%)", "50.00", *"––––", "not compared (nothing measured)"]
    assert len(found) == 2 and (compared, differing) == (1, 0)
    found, compared, differing = rows(folder, "made,alpha,20,66.48,1.00,\n", *ours)
    assert found[0][5:] == ["-4.48", "4.47", "as published", "differs"] and (compared, differing) == (1, 1)
    assert rows(folder, "made,alpha,20,66.47,1.00,\n", *ours)[0][0][-1] == "agrees"  # a tie is no difference


def test_one_run_has_no_spread_and_a_point_is_the_least_tolerance(folder: Path) -> None:
    found, _, _ = rows(folder, "made,alpha,20,61.00,,\n", run("alpha", 60.0))
    assert found[0][3:] == ["61.00", "60.00 (n=1)", "-1.00", "1.00", "as published", "agrees"]
    found, _, _ = rows(folder, "made,alpha,20,61.01,0.40,\n", run("alpha", 60.0))
    assert found[0][3:] == ["61.01 ± 0.40", "60.00 (n=1)", "-1.01", "1.00", "as published", "differs"]


def test_an_incomplete_cell_is_compared_and_marked(folder: Path) -> None:
    lost = record("alpha", fold=2, status="diverged", reason="nan", values=SETUP)
    found, compared, _ = rows(folder, "made,alpha,20,61,,\n", run("alpha", 60.0), run("alpha", 62.0, 1), lost)
    assert found[0][4] == "61.00 ± 1.41 (2/3)" and compared == 1
    assert found[0][-1] == "agrees (incomplete: 2 of 3 draws)"


def test_what_has_no_value_is_not_compared_and_says_why(folder: Path) -> None:
    failed = record("alpha", status="failed", reason="no memory")
    assert rows(folder, "made,alpha,20,61,,\n", failed)[0][0][-1] == "not compared (nothing measured: failed)"
    counts = made_counts()
    counts["test_pooled"] = np.zeros_like(counts["test_pooled"])
    found, compared, _ = rows(folder, "made,alpha,20,61,,\n", record(counts=counts))
    assert found[0][-1] == "not compared (our runs have no such value)" and compared == 0
    (group,) = of_experiment([], [expected("alpha", record("alpha")[0], missing="stale", reason="other code")])
    found = against_table(folder, "scores", group)
    assert found.table.rows[0][-1] == "not compared (nothing measured: stale)"


def test_copied_rows_are_marked_and_not_compared(folder: Path) -> None:
    cells = "made,theirs,20,99,,\nmade,alpha,20,60,,as printed\n"
    found, compared, differing = rows(folder, cells, run("theirs", 60.0), run("alpha", 60.0), run("more", 60.0))
    assert found[0][3:] == ["99.00", "60.00 (n=1)", "-39.00", "–", "as published", "not compared (copied)"]
    assert (compared, differing) == (1, 0)
    found = against_table(folder, "scores", only(run("alpha", 60.0), run("more", 60.0)))
    assert "theirs is not compared: copied from them." in found.table.notes and "a note" in found.table.notes
    assert "alpha at 20 %, Dice (%) as printed: as printed." in found.table.notes
    assert "Not in the published table: more." in found.table.notes
    assert found.table.caption.endswith("Cells compared: 1, differing: 0.")


def test_another_setup_is_told_in_words(folder: Path) -> None:
    cells = "".join(f"made,{row},20,60,,\n" for row in ("alpha", "beta", "gamma"))
    (folder / "scores.csv").write_text(ELSEWHERE + cells)
    other = {"data.size": 96, "train.epochs": None}
    group = only(run("alpha", 60.0, values=other), run("beta", 60.0), run("gamma", 60.0, values=other))
    table = against_table(folder, "scores", group).table
    assert [row[7] for row in table.rows] == ["other (1)", "as published", "other (1)"]
    expected = "image size (data.size 96, not 256), epochs (train.epochs unset, not 200)"
    assert table.notes[0] == f"Set-up other (1): {expected}."
    assert "Not published, and so not compared: the seeds." in table.notes


def test_costs_are_compared_without_a_ratio_and_memory_on_one_device_only(folder: Path) -> None:
    records = [run("alpha", 60.0, ratio=ratio) for ratio in (10, 20)] + [run("beta", 60.0, device="a GPU")]
    for made, _ in records:
        made["cost"] = {"parameters_trained": 1_450_000, "peak_memory_bytes": 2_000_000_000}
    found = against_table(folder, "cost", only(*records))
    cells = [list(row) for row in found.table.rows]
    assert cells[0][3:] == ["1", "1.45 ± 0.00 (n=2)", "+0.45", "0.50", "as published", "agrees"]
    assert cells[1][3:7] == ["15.71", "2.00 ± 0.00 (n=2)", "-13.71", "–"]
    assert cells[1][7:] == ["as published", "not compared (not comparable)"]
    assert cells[2][3:] == ["3", "1.45 (n=1)", "-1.55", "0.50", "as published", "differs"]
    assert len(cells) == 3 and (found.compared, found.differing) == (2, 1)
    records[0][0]["environment"]["device"] = "another GPU"
    assert against_table(folder, "cost", only(*records)).table.rows[1][-1] == "not compared (2 devices)"


def test_other_data_have_no_published_cells(folder: Path) -> None:
    found = against_table(folder, "scores", only(run("alpha", 60.0, dataset="new")))
    assert not found.table.rows and (found.compared, found.differing) == (0, 0)
    group = only(run("alpha", 60.0))
    assert not against(group).table.rows
    with pytest.raises(UserError, match="Did you mean 'scores'"):
        against_table(folder, "score", group)


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("scores.csv", "60.00", "x", "scores.csv: could not convert string to float: 'x'"),
        ("scores.csv", "made,alpha", "elsewhere,theirs", "line 3: the same dataset, row and ratio"),
        ("scores.csv", "dice_sd", "dice_se", "unknown column 'dice_se'"),
        ("tables.yaml", "protocol: paper", "protocol: papr", "line 14: .*'papr'"),
        ("tables.yaml", "protocol: paper, ", "", "no protocol says"),
        ("tables.yaml", "title: Table 1", "titel: Table 1", "unknown key 'titel'. Did you mean 'title'"),
        ("tables.yaml", "factor: 100, tolerance: 1}", "factor: 100}", "needs a tolerance"),
    ],
)
def test_mistakes_in_the_files_are_told(folder: Path, file: str, old: str, new: str, complaint: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=complaint):
        published.read("scores", folder)


# What configs/paper holds


def test_the_published_tables_are_there_and_their_rows_are_ours() -> None:
    assert set(published.read("table1").cells.row) <= set(METHODS.names())
    for experiment in ("reproduction", "ablation_experts", "cost"):
        read = read_experiment(experiment)
        assert read.published and set(published.read(read.published).cells.row) <= {cell.row for cell in read.cells}
    assert [len(published.read(name).cells) for name in ("table1", "table2", "table3")] == [80, 24, 6]


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_printed_pairs_obey_the_identity_of_pooled_scores_or_are_noted(name: str) -> None:
    table = published.read(name)
    pairs: dict[Any, dict[str, Any]] = {}
    for cell in table.cells.itertuples():
        pairs.setdefault((cell.dataset, cell.row, cell.ratio), {})[cell.quantity] = cell
    for place, pair in pairs.items():
        dice, jaccard = pair["dice"].mean / 100, pair["jaccard"]
        expected = 100 * dice / (2 - dice)
        agrees = abs(expected - jaccard.mean) < 0.03  # both are rounded, and averaged over three runs
        assert agrees == (not jaccard.note) or place[1] in table.about.copied, place
        if jaccard.note:
            assert f"{expected:.2f}" in jaccard.note


def test_numbers_of_the_text_are_transcribed() -> None:
    found = {
        (cell.dataset, cell.row, cell.ratio, cell.quantity): (cell.mean, cell.sd)
        for cell in published.read("table1").cells.itertuples()
    }
    assert found["glas", "semimoe", 20, "dice"] == (90.4, 0.32) and found["glas", "cps", 10, "jaccard"] == (80.43, 0.31)
    assert found["crag", "semimoe", 10, "jaccard"] == (80.61, 0.18)
    assert sum(1 for place in found if place[0] == "glas") == 40
    costs = {(cell.row, cell.quantity): cell.mean for cell in published.read("table3").cells.itertuples()}
    assert costs["semimoe", "parameters"] == 181 and costs["cps", "memory"] == 15.71


def test_the_setup_names_settings_that_exist() -> None:
    presets = (published.CONFIGS / "presets" / "paper.yaml").read_text(encoding="utf-8")
    for settings in published.read("table1").file.setup.values():
        for key in settings:
            assert key == "split" or f"  {key}: " in presets


