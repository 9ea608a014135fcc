"""Figures: what they show against hand calculations, that they are the same every time, and that odd records draw."""

from __future__ import annotations

import io
import re
import shutil
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from benchmark.metrics.counts import dice
from benchmark.report import pictures, stats
from benchmark.report.cells import Group, Wanted, group_experiment, group_runs
from benchmark.report.compare import compare, difference_table
from benchmark.report.figures import Case, draw_all, panel
from benchmark.report.figures.cost import cost
from benchmark.report.figures.forest import forest
from benchmark.report.figures.gap import gap
from benchmark.report.figures.labels import name_points, spread
from benchmark.report.figures.ratio import ratio_curves
from benchmark.report.figures.rows import named, rows_at
from benchmark.report.figures.scatter import scatter
from benchmark.report.figures.style import DPI, save, short, styled
from benchmark.report.figures.training import Curve, learning, losses, shares, watched
from benchmark.report.figures.unlabelled import unlabelled
from benchmark.report.gap import gap_table, waterfall_table
from benchmark.report.pictures import choose_images, gallery, lay_out
from benchmark.runs.records import read_records
from tests.conftest import invoke, tiny_settings
from tests.test_compare import run
from tests.test_report import evidence, native, only, record

pytestmark = pytest.mark.slow

NASTY = '<script>$x_{1}$\n "a" & b | a method whose name is far too long for one line (method.setting=0.123456789)'


def history(steps: int = 4, **curves: float) -> list[dict[str, Any]]:
    return [{"step": 10 * k, **{name: value * k for name, value in curves.items()}} for k in range(1, steps + 1)]


def several(names: tuple[str, ...] = ("alpha", "beta"), ratios: tuple[int, ...] = (20,), draws: int = 3) -> Group:
    records = [
        record(name, ratio=ratio, fold=fold, counts=evidence(seed=10 * number + fold), history=history(loss=1.0))
        for number, name in enumerate(names) for ratio in ratios for fold in range(draws)
    ]  # fmt: skip
    return replace(only(records), reference=names[0])


def words(figure: Figure) -> list[str]:
    """All texts of a figure that say something."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left"), *(t.get_text() for t in axes.texts)]
        found += [tick.get_text() for tick in axes.get_yticklabels()]
    return [text for text in found if text]


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


# All of them


def test_every_figure_that_the_records_allow_is_drawn_and_a_missing_panel_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = draw_all(several(ratios=(10, 20)), tmp_path, tmp_path / "figures", ("png",))
    kinds = ["forest-10", "forest-20", "ratio", "cost", "learning", "losses", "unlabelled", "scatter", "gap"]
    assert [path.name for path in found] == [f"made-official-quick-{kind}.png" for kind in kinds]
    assert all(path.stat().st_size > 5000 for path in found)
    assert caplog.messages == ["made-official-quick: no panel of images, no finished run has its masks here"]


def test_the_same_records_give_the_same_bytes_whatever_the_users_settings_are(tmp_path: Path) -> None:
    once = draw_all(several(), tmp_path, tmp_path / "one")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30, "text.usetex": True}):
        twice = draw_all(several(), tmp_path, tmp_path / "two")
    assert [path.name for path in once] == [path.name for path in twice]
    assert {path.suffix for path in once} == {".png", ".pdf"}
    for one, two in zip(once, twice, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
        assert b"CreationDate" not in one.read_bytes() and b"atplotlib" not in one.read_bytes()


def test_runs_without_scores_draw_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = draw_all(only([record(status="diverged", reason="nan")]), tmp_path, tmp_path / "figures")
    assert found == [] and len(caplog.messages) == 1


def test_a_single_run_and_odd_names_are_drawn(tmp_path: Path) -> None:
    assert draw_all(several(("alpha",), draws=1), tmp_path, tmp_path / "one", ("png",)).paths
    names = (NASTY, "alpha", *(f"method_{k}" for k in range(20)))
    group = several(names, draws=1)
    assert len(draw_all(group, tmp_path, tmp_path / "many", ("png", "pdf")).paths) == 2 * 7
    assert short(NASTY, 20).startswith("<script>") and len(short(NASTY, 20)) == 20
    assert short("mean (method.decay=0.999)", 20) == "mean (decay=0.999)"


def test_every_file_keeps_its_provenance_and_stays_the_same(tmp_path: Path) -> None:
    told = "made by a command; 6 records (digest 0123) · ümlaut"
    once, twice = (draw_all(several(), tmp_path, tmp_path / name, provenance=told).paths for name in ("one", "two"))
    plain = draw_all(several(), tmp_path, tmp_path / "plain").paths
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in twice]
    for path, bare in zip(once, plain, strict=True):
        if path.suffix == ".png":
            with Image.open(path) as picture, Image.open(bare) as other:
                assert picture.info["Description"] == told and "Description" not in other.info
        else:
            escaped = re.search(rb"/Subject \((.*?)\)\s*(/|>>)", path.read_bytes(), re.DOTALL)
            assert escaped and told[:10].encode("utf-16-be") in escaped[1] and b"/Subject" not in bare.read_bytes()


def test_names_in_other_scripts_are_drawn_without_a_word_on_the_terminal(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_all(several(("日本語", "हिन्दी")), tmp_path, tmp_path, ("png", "pdf")).paths


def test_figures_are_drawn_without_torch_and_without_a_display() -> None:
    import subprocess
    import sys

    code = "import benchmark.report.figures, sys; assert not {'torch', 'tkinter'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# Rows at one ratio


def test_a_forest_is_sorted_and_has_means_intervals_and_paired_differences() -> None:
    low, high = native((6, 4, 4), (5, 5, 5), (5, 5, 5)), native((8, 2, 2), (9, 1, 1), (7, 3, 3))  # .6 .5 .5, .8 .9 .7
    group = replace(only([record("alpha", counts=low), record("beta", counts=high)]), reference="alpha")
    figure = drawn(forest(group, 20))
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["beta", "80.00", "alpha", "53.33"]
    means = [float(line.get_xdata()[0]) for line in left.lines if line.get_markersize() == 5.2]
    assert means == pytest.approx([80, 53.333], abs=1e-3)
    (mark,) = [line for line in right.lines if line.get_markersize() == 4.6]
    assert float(mark.get_xdata()[0]) == pytest.approx(100 * (0.2 + 0.4 + 0.2) / 3) and mark.get_ydata()[0] == 0
    assert to_hex(mark.get_markerfacecolor()) != "#ffffff"  # 20, 40, 20: no resample reaches 0
    comparison = compare(group, "beta", "alpha", 20)
    expected = stats.interval(comparison.images) if comparison else None
    assert expected is not None
    bars = [line for line in right.lines if list(line.get_ydata()) == [0, 0]]
    assert list(bars[0].get_xdata()) == pytest.approx([100 * expected.low, 100 * expected.high])


def differing() -> Group:
    """A reference of two draws, and rows with one of them, with another, and with one patient in common."""
    records = [run("base", [4, 5, 6, 5, 5, 5]), run("base", [9, 9, 9, 9, 9, 9], 1), run("other", [8] * 6, 2)]
    return replace(only([*records, run("new", [6, 6, 7, 7, 6, 6]), run("one", [6, 6], 0)]), reference="base")


def test_a_forest_and_a_scatter_take_the_draws_that_both_have_as_the_table_does() -> None:
    group = differing()
    table = difference_table(group)
    assert table and [row[:3] for row in table.rows] == [["new", "20 %", "+13.33"], ["one", "20 %", "+15.00"]]
    left, right = drawn(forest(group, 20)).axes
    names = [text.get_text() for text in left.texts][::2]
    marks = {names[int(line.get_ydata()[0])]: line for line in right.lines if line.get_markersize() == 4.6}
    shown = {name: f"{float(line.get_xdata()[0]):+.2f}" for name, line in marks.items()}
    assert shown == {"new (1/3)": "+13.33", "one (1/3)": "+15.00"}  # 'other' shares no draw
    assert marks["one (1/3)"].get_markerfacecolor() == "white"  # one patient: no interval
    figure = drawn(scatter(group, 20))
    marks = figure.axes[0].lines[1]
    assert list(marks.get_xdata()) == pytest.approx([40, 50, 60, 50, 50, 50])
    assert list(marks.get_ydata()) == pytest.approx([60, 60, 70, 70, 60, 60])
    assert "Dice (%), new" in words(figure) and any(text.endswith("strict protocol · 1 draw") for text in words(figure))


def test_an_interval_that_holds_zero_is_hollow() -> None:
    one, two = native((6, 4, 4), (5, 5, 5), (5, 5, 5)), native((5, 5, 5), (6, 4, 4), (5, 5, 5))
    group = replace(only([record("alpha", counts=one), record("beta", counts=two)]), reference="alpha")
    (mark,) = [line for line in drawn(forest(group, 20)).axes[1].lines if line.get_markersize() == 4.6]
    assert mark.get_markerfacecolor() == "white"


def test_a_forest_says_what_is_incomplete_or_missing_and_shows_the_upper_bound() -> None:
    records = [record("alpha", fold=fold, counts=evidence(fold)) for fold in range(3)]
    records += [record("beta"), record("gamma", status="diverged", reason="nan"), record("alpha", ratio=100)]
    group = only(records)
    figure = drawn(forest(group, 20))
    assert len(figure.axes) == 1  # no reference, no differences
    text = " ".join(words(figure))
    assert "beta (1/3)" in text and "alpha, 100 %" in text and "Without a score here: gamma." in text.replace("\n", " ")
    assert forest(group, 100) is None


def test_an_experiments_missing_rows_are_named() -> None:
    records = [record("alpha"), record("beta")]
    specs = [made["spec"] for made, _ in records]
    wanted = [Wanted(f"row {made['spec']['method']}", made["run_id"], made["spec"]) for made, _ in records]
    lost = Wanted("row gamma", "elsewhere", specs[0] | {"method": "gamma"}, "missing")
    (group,) = group_experiment("mine", records, [*wanted, lost])
    assert "Without a score here: row gamma." in " ".join(words(drawn(forest(group, 20))))


def test_the_gap_figure_has_the_waterfalls_numbers() -> None:
    group = several()
    check_gap_figure(group)
    check_gap_figure(several(tuple(f"row {k}" for k in range(12))))


def check_gap_figure(group: Group) -> None:
    """Every number of the waterfall table, and the ends of the gap table, stands in the figure as it is printed."""
    figure, table = drawn(gap(group, 20)), waterfall_table(group)
    assert table
    left, *columns = figure.axes
    names = [tick.get_text() for tick in left.get_yticklabels()]
    texts = [[text.get_text().replace("\N{MINUS SIGN}", "-") for text in axes.texts] for axes in columns]
    for row, ends in zip(table.rows, gap_table(group).rows, strict=True):
        place = names.index(row[0])
        assert (row[2], row[-1]) == (ends[4], ends[2]) and ends[0] == row[0]
        printed = [column[place] for column in texts]
        assert [text if text != "0" else "+0.00" for text in printed[:-1]] == list(row[3:-1])
        whole = round(float(row[-1]) - float(row[2]), 2)
        assert float(printed[-1]) == whole == -float(ends[5])
        circles = [float(line.get_xdata()[0]) for line in left.lines if list(line.get_ydata()) == [place]]
        assert [f"{value:.2f}" for value in circles] == [row[2], row[-1]]


def test_the_gap_takes_the_runs_that_have_every_score_and_says_how_many_have_not() -> None:
    lacking = {key: value for key, value in evidence(7).items() if key != "test_pooled"}
    records = [record("alpha", fold=fold, counts=evidence(fold)) for fold in range(3)]
    records += [record("beta", fold=0), record("beta", fold=1, counts=lacking)]
    records += [record("beta", fold=2, counts=evidence(2, validation=False))]
    records += [record("alpha", 100, counts=evidence(validation=False)), record("gamma", counts=lacking)]
    group = only(records)
    table, steps = gap_table(group), waterfall_table(group)
    assert steps and [row[0] for row in table.rows] == ["alpha", "alpha", "beta (1/3)"] == [r[0] for r in steps.rows]
    assert [(row[2], row[-1]) for row in steps.rows] == [(row[4], row[2]) for row in table.rows]
    assert table.rows[1][3] == "–" and table.rows[2][2:5] == gap_table(only([record("beta")])).rows[0][2:5]
    note = "3 finished runs are left out: a score under one of the protocols is lacking."
    assert list(table.notes) == list(steps.notes) == [note]
    assert "mean over 1 to 3 draws (after a name k/n" in table.caption and "mean over 1 to 3 draws" in steps.caption
    text = " ".join(words(drawn(gap(group, 20)))).replace("\n", " ")
    assert note in text and "beta (1/3)" in text and "mean over 1 to 3 draws" in text
    alone = only([record()])
    assert not gap_table(alone).notes and "mean over 1 draw." in gap_table(alone).caption


def test_a_scatter_compares_the_best_row_with_the_reference_image_by_image() -> None:
    low, middle, high = native((5, 5, 5), (5, 5, 5)), native((4, 6, 6), (7, 3, 3)), native((4, 6, 6), (9, 1, 1))
    records = [record("alpha", counts=low), record("beta", counts=middle), record("gamma", counts=high)]
    group = replace(only(records), reference="alpha")
    figure = drawn(scatter(group, 20))
    text = words(figure)
    assert "better in 1" in text and "worse in 1" in text and "Dice (%), gamma" in text
    marks = figure.axes[0].lines[1]
    assert list(marks.get_xdata()) == [50, 50] and list(marks.get_ydata()) == [40, 90]
    assert scatter(replace(group, reference=None), 20) is None
    assert scatter(replace(group, reference="nobody"), 20) is None
    assert scatter(only([record("alpha")]), 20) is None


def test_images_of_named_groups_have_their_own_marks() -> None:
    counts = evidence() | {"test_groups_site": np.array(["north", "south"] * 3)}
    group = replace(only([record("alpha", counts=counts), record("beta", counts=counts)]), reference="alpha")
    legend = drawn(scatter(group, 20)).axes[0].get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["north (n=3)", "south (n=3)"]


def test_ratios_are_a_curve_for_every_row_that_has_several() -> None:
    assert ratio_curves(several()) is None
    bound = [record("alpha"), record("beta"), record("alpha", ratio=100)]
    assert ratio_curves(only(bound)) is None
    assert len(drawn(ratio_curves(several(ratios=(5, 20)))).axes) == 1
    many = several(tuple(f"row {k}" for k in range(7)), (5, 20), 1)
    assert len(drawn(ratio_curves(many)).axes) == 7
    values = [line.get_ydata() for line in drawn(ratio_curves(several(("alpha",), (5, 20)))).axes[0].lines]
    expected = 100 * np.mean([dice(evidence(fold)["test_native"][:, 0]).mean() for fold in range(3)])
    assert values[0] == pytest.approx([expected, expected])


def test_times_of_other_devices_and_unknown_costs_are_left_out() -> None:
    def costs(flops: float | None, seconds: float) -> dict[str, Any]:
        return {"flops_per_step": flops, "parameters_trained": None, "seconds_per_step": seconds}

    records = [record("alpha", cost=costs(2e9, 1.0)), record("beta", cost=costs(4e9, 2.0))]
    records += [record("gamma", cost=costs(None, 9.0), device="a GPU")]
    figure = drawn(cost(only(records), 20))
    assert [axes.get_xlabel() for axes in figure.axes] == ["GFLOPs a training step", "seconds a step\na CPU"]
    for axes, expected in zip(figure.axes, ([2, 4], [1, 2]), strict=True):
        assert sorted(float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o") == expected
    assert cost(only([record(cost=costs(None, 1.0))]), 20) is None


# What is incomplete


def incomplete() -> Group:
    """Two rows at two ratios with three draws, of which the second row lacks one at the greater ratio."""
    records = [
        record(name, ratio, fold, counts=evidence(5 * place + fold), history=history(loss=1.0, **{"g/a": 0.0}))
        for place, name in enumerate(("alpha", "beta")) for ratio in (10, 20) for fold in range(3)
        if (name, ratio, fold) != ("beta", 20, 2)
    ]  # fmt: skip
    return only(records)


@pytest.mark.parametrize("draw", [cost, learning, losses, unlabelled, gap, forest])
def test_every_figure_marks_what_is_incomplete_and_tells_the_draws(draw: Any) -> None:
    text = words(drawn(draw(incomplete(), 20)))
    assert any("beta (2/3)" in part for part in text) and not any("alpha (" in part for part in text)
    assert "2 to 3 draws" in " ".join(text).replace("\n", " ")
    whole = " ".join(words(drawn(draw(several(), 20)))).replace("\n", " ")
    assert "/3)" not in whole and " 3 draws" in whole


def test_incomplete_points_of_a_curve_over_ratios_are_hollow() -> None:
    figure = drawn(ratio_curves(incomplete()))
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    (row,) = [row for row in rows_at(incomplete(), 20) if row.complete]
    assert [list(line.get_ydata()) for line in hollow] == [[row.mean]] and row.name() == "beta (2/3)"
    assert named("x" * 40, "(2/3)", 20).endswith("x (2/3)") and len(named("x" * 40, "(2/3)", 20)) == 20
    text = " ".join(words(figure)).replace("\n", " ")
    assert "2 to 3 draws a point" in text and "Hollow:" in text
    whole = drawn(ratio_curves(several(ratios=(10, 20))))
    assert "Hollow" not in " ".join(words(whole)) and "3 draws a point" in " ".join(words(whole))


# Training


def test_learning_curves_are_pooled_dice_at_a_half() -> None:
    group = several()
    figure = drawn(learning(group, 20))
    runs = [evidence(seed) for seed in range(3)]
    half = 25  # 0.5 = 25 * 0.02
    expected = 100 * np.mean([dice(counts["test_pooled"][:, 0, half]) for counts in runs], 0)
    shown = [line.get_ydata() for line in figure.axes[0].lines]
    assert any(values == pytest.approx(expected) for values in shown)
    no_pool = {key: value for key, value in evidence().items() if key != "test_pooled"}
    assert learning(only([record(counts=no_pool)]), 20) is None


def test_draws_with_other_steps_are_not_averaged() -> None:
    records = [record(fold=fold, counts=evidence(fold), history=history(loss=1.0 + fold)) for fold in range(2)]
    records.append(record(fold=2, history=[{"step": 7, "loss": 100.0}]))
    figure = drawn(losses(only(records), 20))
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[1.5, 3.0, 4.5, 6.0]]
    text = " ".join(words(figure)).replace("\n", " ")
    assert "Left out, having other steps than most draws of its row: 1 draw of alpha." in text and "alpha (2/3)" in text
    assert "Left out" not in " ".join(words(drawn(losses(several(), 20))))


def test_only_curves_that_always_add_up_to_one_are_shares() -> None:
    steps = np.array([1, 2])
    curves = {
        name: Curve(steps, np.array([values]))
        for name, values in {
            "gate/one/a": [0.3, 0.5], "gate/one/b": [0.7, 0.5], "gate/two/a": [0.5, 0.5], "gate/two/b": [0.5, 0.6],
            "loss/a": [0.2, 0.1], "loss/b": [0.8, 0.2], "alone/a": [1.0, 1.0], "plain": [1.0, 1.0],
            "signed/a": [-1.0, -1.0], "signed/b": [2.0, 2.0],
        }.items()
    }  # fmt: skip
    assert shares(curves) == [["gate/one/a", "gate/one/b"]]


def test_shares_have_a_figure_of_their_own() -> None:
    lines = [{"step": 10 * k, "loss": 1.0, "gate/x": 0.1 * k, "gate/y": 1 - 0.1 * k} for k in range(1, 5)]
    group = only([record("alpha", history=lines), record("beta", history=history(loss=1.0))])
    figure = drawn(watched(group, 20))
    assert len(figure.axes) == 1 and figure.axes[0].get_title(loc="left") == "alpha\ngate"
    assert list(figure.axes[0].lines[1].get_ydata()) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert "gate/x" not in words(drawn(losses(group, 20)))
    assert watched(several(), 20) is None and losses(only([record()]), 20) is None


def test_pseudo_labels_are_judged_on_the_masks_of_validation_images() -> None:
    counts = evidence(4)
    figure = drawn(unlabelled(only([record("alpha", counts=counts), record("beta", status="failed")]), 20))
    (axes,) = figure.axes
    half = int(np.argmin(np.abs(counts["thresholds"] - 0.5)))
    found, mask = counts["raw_validation"][:, 1] > counts["thresholds"][half], counts["raw_validation_mask"]
    by_hand = [100 * 2 * (one & mask).sum() / (one.sum() + mask.sum()) for one in found]
    assert list(axes.lines[1].get_ydata()) == pytest.approx(by_hand) and {"main", "other"} < set(words(figure))
    assert unlabelled(only([record(counts=evidence(validation=False))]), 20) is None


# Names


def test_places_are_apart_and_move_least() -> None:
    assert spread([], 1) == [] and spread([5, 1], 1) == [5, 1]
    assert spread([1, 1], 2) == [0, 2]
    assert spread([0, 0.1, 10], 1, 0, 10) == [0, 1, 10]
    assert spread([9.9, 10, 10], 1, 0, 10) == [8, 9, 10]
    random = np.random.default_rng(0)
    for _ in range(50):
        values = list(random.random(random.integers(1, 12)) * 10)
        places = spread(values, 0.7, 0, 10)
        ordered = sorted(zip(values, places, strict=True))
        assert all(b[1] - a[1] > 0.7 - 1e-6 for a, b in pairwise(ordered))
        assert min(places) >= -1e-9 and max(places) <= 10 + 1e-9


def test_names_of_points_do_not_lie_on_each_other() -> None:
    random = np.random.default_rng(1)
    figure = Figure(figsize=(5, 5), dpi=DPI)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = [(float(x), float(y), f"a method {k}", "#000000") for k, (x, y) in enumerate(random.random((20, 2)))]
    name_points(axes, points)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    shared = sum(one.overlaps(two) for k, one in enumerate(boxes) for two in boxes[:k])
    assert len(boxes) == 20 and shared == 0
    name_points(axes, [])


# Pictures


def test_images_are_chosen_by_rule() -> None:
    names = [f"i{k:02}" for k in range(21)]
    scores = {"alpha": {name: k / 20 for k, name in enumerate(names)}}
    assert choose_images(scores) == {"median": "i10", "worst decile": "i02"}
    scores["beta"] = scores["alpha"] | {"i15": 0.0, "only": 1.0}
    assert choose_images(scores)["largest disagreement"] == "i15"
    assert choose_images({}) == {} and choose_images({"alpha": {"x": 1.0}}) == {"median": "x"}
    assert choose_images({"alpha": {"x": float("nan"), "y": 0.5}}) == {"median": "y"}


def test_a_panel_copes_with_empty_and_full_masks_and_stays_narrow(tmp_path: Path) -> None:
    image = np.full((8, 8, 3), 200, np.uint8)
    masks = [np.zeros((20, 30), bool), np.ones((20, 30), bool), np.eye(20, 30, dtype=bool)]
    columns = ["alpha", NASTY] * 7 + ["last"]
    cases = [Case("an image of $5", image, truth, [masks[0], masks[1]] * 7 + [masks[2]], [0.5] * 15) for truth in masks]
    with styled():
        (path,) = save(panel("a title", "about it", columns, cases), tmp_path / "p", ("png",))
        (again,) = save(panel("a title", "about it", columns, cases), tmp_path / "q", ("png",))
    assert path.read_bytes() == again.read_bytes()
    with Image.open(path) as picture:
        assert picture.width <= 2400


def test_the_truth_is_outlined_in_every_picture_but_the_image() -> None:
    truth = np.zeros((20, 30), bool)
    truth[5:15, 5:20] = True
    case = Case("one", np.full((8, 8, 3), 200, np.uint8), truth, [truth, ~truth])
    outlines = [len(axes.collections) for axes in panel("a title", "about it", ["alpha", "beta"], [case]).axes]
    assert outlines == [0, 1, 1, 1]


def test_an_overlay_has_a_colour_for_every_kind_of_pixel() -> None:
    truth, found = np.zeros((7, 9), bool), np.zeros((7, 9), bool)
    truth[1:6, 1:6], found[1:6, 3:8] = True, True
    with Image.open(io.BytesIO(pictures._overlay(found, truth))) as opened:
        assert opened.mode == "P"
        picture = np.asarray(opened.convert("RGBA"))
    colour = {kind: tuple(int(kind[k : k + 2], 16) for k in (1, 3, 5)) for kind in ("#009E73", "#E69F00", "#0072B2")}
    assert tuple(picture[3, 4, :3]) == colour[pictures.FOUND] and tuple(picture[3, 7, :3]) == colour[pictures.INVENTED]
    assert tuple(picture[3, 2, :3]) == colour[pictures.MISSED] and tuple(picture[1, 1, :3]) == (0, 0, 0)
    assert picture[0, 0, 3] == 0 and picture[3, 4, 3] == round(255 * pictures.OPACITY[pictures.FOUND])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods' runs on synthetic images, with their masks."""
    folder = tmp_path_factory.mktemp("pictures")
    for method in ("supervised", "entropy_minimisation"):
        found = invoke("run", "--method", method, "--dataset", "synthetic", "--preset", "demo", "--results", folder,
                       *tiny_settings())  # fmt: skip
        assert found.returncode == 0, found.stderr
    return folder


def test_the_gallery_has_small_pictures_with_the_dice_of_their_masks(results: Path) -> None:
    (group,) = group_runs(read_records(results / "records"))
    found, reason = gallery(group, results)
    assert reason == "" and [picture.rule for picture in found] == ["median", "worst decile", "largest disagreement"]
    everything, _ = gallery(group, results, everything=True)
    assert everything[:3] == found and len(everything) == len({picture.image_id for picture in everything}) == 24
    layout, _ = lay_out(group, results, everything=True)
    assert layout and layout.labels == group.labels and (layout.ratio, layout.draw) == (20, (0, 0))
    for shown, picture in zip(layout.images, everything, strict=True):
        for label, mask in shown.masks.items():
            score = 2 * (mask & shown.truth).sum() / (mask.sum() + shown.truth.sum())
            assert picture.dice[label] == pytest.approx(score)
        for content in (picture.image, picture.truth, *picture.overlays.values()):
            with Image.open(io.BytesIO(content)) as opened:
                assert opened.mode == "P" and max(opened.size) <= 192
                height, width = shown.truth.shape
                assert opened.width / opened.height == pytest.approx(width / height, 0.02)
        assert sum(map(len, (picture.image, *picture.overlays.values()))) < 60_000


def test_a_panel_is_drawn_and_pictures_of_others_data_stay_local(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (group,) = group_runs(read_records(results / "records"))
    assert tmp_path / "synthetic-official-demo-panel.png" in draw_all(group, results, tmp_path, ("png",)).paths
    monkeypatch.setattr("benchmark.report.figures.all.may_be_published", lambda dataset: False)
    assert draw_all(group, results, tmp_path, ("png",)).paths[-1].parent == tmp_path / "local"
    assert (tmp_path / "local" / ".gitignore").read_text() == "*\n"
    assert not pictures.may_be_published("glas") and not pictures.may_be_published("unheard of")


def test_missing_or_damaged_masks_and_other_images_are_told(results: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(results, tmp_path / "copy")
    (group,) = group_runs(read_records(copy / "records"))
    assert gallery(replace(group, fingerprint="other"), copy) == ([], "the prepared images are not those of the runs")
    runs = [replace(run, record=run.record | {"spec": run.spec | {"dataset": "unheard of"}}) for run in group.runs]
    assert "the images are not here" in gallery(replace(group, runs=tuple(runs)), copy)[1]
    path = copy / "runs" / group.runs[0].record["run_id"] / "masks.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert f"the masks of {group.runs[0].record['run_id']} are damaged" in gallery(group, copy)[1]
    path.unlink()
    layout, _ = lay_out(group, copy)
    assert layout and len(layout.labels) == 1
    shutil.rmtree(copy / "runs")
    assert gallery(group, copy) == ([], "no finished run has its masks here")
