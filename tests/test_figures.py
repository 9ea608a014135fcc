"""Figures: what they show against hand calculations, and that odd records draw."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from benchmark.metrics.counts import dice
from benchmark.report import image_selection, stats
from benchmark.report.compare import compare, difference_table, gap_table, waterfall_table
from benchmark.report.figures import draw_all, panel
from benchmark.report.figures.scores import cost, forest, gap, ratio_curves, rows_at, scatter
from benchmark.report.figures.style import save, short, styled
from benchmark.report.figures.training import learning, losses, unlabelled, watched
from benchmark.report.gather import check_records, group_runs
from benchmark.report.image_selection import Selection, Shown, choose_images, select_images, thumbnails
from benchmark.report.results_frame import Group
from tests.conftest import demo_run
from tests.made_records import made_counts, native, only, record, tenths

pytestmark = pytest.mark.slow

NASTY = '<script>$x_{1}$\n "a" & b | 日本語 whose name is far too long for one line (method.setting=0.123456789)'


def history(steps: int = 4, **curves: float) -> list[dict[str, Any]]:
    return [{"step": 10 * k, **{name: value * k for name, value in curves.items()}} for k in range(1, steps + 1)]


def several(names: tuple[str, ...] = ("alpha", "beta"), ratios: tuple[int, ...] = (20,), draws: int = 3) -> Group:
    records = [
        record(name, ratio=ratio, fold=fold, counts=made_counts(seed=10 * number + fold), history=history(loss=1.0))
        for number, name in enumerate(names) for ratio in ratios for fold in range(draws)
    ]  # fmt: skip
    return only(*records, reference=names[0])


def words(figure: Figure | None) -> str:
    """All texts of a figure."""
    assert figure is not None
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left"), *(t.get_text() for t in axes.texts)]
        found += [tick.get_text() for tick in axes.get_yticklabels()]
    return " ".join(found).replace("\n", " ")


def marks(figure: Figure | None, gid: str, axes: int = 0) -> list[Any]:
    """The artists of one kind."""
    assert figure is not None
    return [artist for artist in figure.axes[axes].get_children() if artist.get_gid() == gid]


# All of them


def test_every_figure_that_the_records_allow_is_drawn_and_a_missing_panel_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "benchmark")
    found = draw_all(several(ratios=(10, 20)), tmp_path, tmp_path / "figures", ("png",))
    kinds = ["forest-10", "forest-20", "ratio", "cost", "learning", "losses", "unlabelled", "scatter", "gap", "ranks"]
    assert [path.name for path in found] == [f"made-official-quick-{kind}.png" for kind in kinds]
    assert caplog.messages == ["made-official-quick: no panel of images, no finished run has its masks here"]
    assert draw_all(only(record(status="diverged", reason="nan")), tmp_path, tmp_path / "none") == []
    assert draw_all(several(("alpha",), draws=1), tmp_path, tmp_path / "one", ("png",))


def test_figures_that_a_second_ratio_replaces_do_not_stay(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    once = draw_all(several(draws=1), tmp_path, folder, ("png",))
    others = [folder / f"made-official-quick-{name}" for name in ("forest.pdf", "panel.png", "on-other-forest.png")]
    for path in others:
        path.write_bytes(b"")
    twice = draw_all(several(draws=1, ratios=(10, 20)), tmp_path, folder, ("png",))
    assert {path.name for path in set(once) - set(twice)} == {"made-official-quick-forest.png"}
    assert {*folder.iterdir()} == {*twice, *others}
    assert draw_all(only(record(status="failed", reason="a bug")), tmp_path, folder, ("png",)) == []
    assert {*folder.iterdir()} == {*others}


def test_a_figure_has_the_same_bytes_whatever_the_users_settings_are(tmp_path: Path) -> None:
    def drawn(name: str) -> list[Path]:
        with styled():
            figure = forest(several((NASTY, "alpha"), draws=1), 20)
            return save(figure, tmp_path / name, provenance="made by a command · ümlaut") if figure else []

    once = drawn("one")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30, "text.usetex": True}):
        twice = drawn("two")
    assert [path.suffix for path in once] == [".png", ".pdf"]
    for one, two in zip(once, twice, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
        assert b"CreationDate" not in one.read_bytes() and b"atplotlib" not in one.read_bytes()
    with Image.open(once[0]) as picture:
        assert picture.info["Description"] == "made by a command · ümlaut"


# Rows at one ratio


def test_a_forest_is_sorted_and_has_means_intervals_and_paired_differences() -> None:
    low, high = native((6, 4, 4), (5, 5, 5), (5, 5, 5)), native((8, 2, 2), (9, 1, 1), (7, 3, 3))  # .6 .5 .5, .8 .9 .7
    group = only(record("alpha", counts=low), record("beta", counts=high), reference="alpha")
    figure = forest(group, 20)
    assert [text.get_text() for text in marks(figure, "name")] == ["beta", "alpha"]
    assert [float(line.get_xdata()[0]) for line in marks(figure, "mean")] == pytest.approx([80, 53.333], abs=1e-3)
    (mark,) = marks(figure, "mean", axes=1)
    assert float(mark.get_xdata()[0]) == pytest.approx(100 * (0.2 + 0.4 + 0.2) / 3) and mark.get_ydata()[0] == 0
    assert to_hex(mark.get_markerfacecolor()) != "#ffffff"  # 20, 40, 20: no resample reaches 0
    bounds = stats.interval(compare(group, "beta", "alpha", 20).mean(axis=1))
    assert bounds
    (bar,) = marks(figure, "interval", axes=1)
    assert list(bar.get_xdata()) == pytest.approx([100 * bounds.low, 100 * bounds.high])
    other = native((5, 5, 5), (6, 4, 4), (5, 5, 5))
    (mark,) = marks(forest(only(record("a", counts=low), record("b", counts=other), reference="a"), 20), "mean", axes=1)
    assert mark.get_markerfacecolor() == "white"  # its interval holds zero


def test_a_forest_and_a_scatter_take_the_draws_that_both_have_as_the_table_does() -> None:
    records = [tenths("base", [4, 5, 6, 5, 5, 5]), tenths("base", [9] * 6, 1), tenths("other", [8] * 6, 2)]
    group = only(*records, tenths("new", [6, 6, 7, 7, 6, 6]), tenths("one", [6, 6]), reference="base")
    table = difference_table(group)
    assert table and [row[:3] for row in table.rows] == [["new", "20 %", "+13.33"], ["one", "20 %", "+15.00"]]
    names = [text.get_text() for text in marks(forest(group, 20), "name")]
    found = {names[int(line.get_ydata()[0])]: line for line in marks(forest(group, 20), "mean", axes=1)}
    shown = {name: f"{float(line.get_xdata()[0]):+.2f}" for name, line in found.items()}
    assert shown == {"new (1/3)": "+13.33", "one (1/3)": "+15.00"}  # 'other' shares no draw
    assert found["one (1/3)"].get_markerfacecolor() == "white"  # one patient: no interval
    (images,) = marks(scatter(group, 20), "images")
    assert list(images.get_xdata()) == pytest.approx([40, 50, 60, 50, 50, 50])
    assert list(images.get_ydata()) == pytest.approx([60, 60, 70, 70, 60, 60])
    assert "Dice (%), new" in words(scatter(group, 20)) and "strict protocol · 1 draw" in words(scatter(group, 20))
    assert scatter(replace(group, reference=None), 20) is None and scatter(replace(group, reference="no"), 20) is None


def test_a_forest_says_what_is_incomplete_or_missing_and_shows_the_upper_bound() -> None:
    records = [record("alpha", fold=fold, counts=made_counts(fold)) for fold in range(3)]
    records += [record("beta"), record("gamma", status="diverged", reason="nan"), record("alpha", ratio=100)]
    text = words(forest(only(*records), 20))
    assert "beta (1/3)" in text and "alpha, 100 %" in text and "Without a score here: gamma." in text
    assert forest(only(*records), 100) is None


def test_the_gap_figure_has_the_waterfalls_numbers() -> None:
    group = several(tuple(f"row {k}" for k in range(12)))
    figure, table = gap(group, 20), waterfall_table(group)
    assert table and figure
    left, right = figure.axes
    names = [tick.get_text() for tick in left.get_yticklabels()]
    printed = np.array([text.get_text().replace("\N{MINUS SIGN}", "-") for text in right.texts]).reshape(len(names), -1)
    for row, ends in zip(table.rows, gap_table(group).rows, strict=True):
        place = names.index(row[0])
        assert [text if text != "0" else "+0.00" for text in printed[place, :-1]] == list(row[3:-1])
        assert float(printed[place, -1]) == round(float(row[-1]) - float(row[2]), 2) == -float(ends[5])
        circles = [float(marks(figure, kind)[0].get_xdata()[place]) for kind in ("paper", "strict")]
        assert [f"{value:.2f}" for value in circles] == [row[2], row[-1]]


def test_images_of_named_groups_have_their_own_marks() -> None:
    counts = made_counts() | {"test_groups_site": np.array(["north", "south"] * 3)}
    figure = scatter(only(record("alpha", counts=counts), record("beta", counts=counts), reference="alpha"), 20)
    assert figure and figure.axes[0].get_legend()
    assert [line.get_label() for line in marks(figure, "images")] == ["north (n=3)", "south (n=3)"]


def test_ratios_are_a_curve_for_every_row_that_has_several() -> None:
    assert ratio_curves(several()) is None
    assert ratio_curves(only(record("alpha"), record("beta"), record("alpha", ratio=100))) is None
    many = ratio_curves(several(tuple(f"row {k}" for k in range(7)), (5, 20), 1))
    assert many and len(many.axes) == 7
    figure = ratio_curves(several(("alpha",), (5, 20)))
    assert figure and len(figure.axes) == 1
    wanted = 100 * np.mean([dice(made_counts(fold)["test_native"][:, 0]).mean() for fold in range(3)])
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([wanted, wanted])


def test_times_of_other_devices_and_unknown_costs_are_left_out() -> None:
    def costs(flops: float | None, seconds: float) -> dict[str, Any]:
        return {"flops_per_step": flops, "parameters_trained": None, "seconds_per_step": seconds}

    records = [record("alpha", cost=costs(2e9, 1.0)), record("beta", cost=costs(4e9, 2.0))]
    figure = cost(only(*records, record("gamma", cost=costs(None, 9.0), device="a GPU")), 20)
    assert figure and [axes.get_xlabel() for axes in figure.axes] == ["GFLOPs a training step", "seconds a step\na CPU"]
    for place, values in enumerate(([2, 4], [1, 2])):
        assert sorted(marks(figure, "row", axes=place)[0].get_offsets()[:, 0]) == values
    assert cost(only(record(cost=costs(None, 1.0))), 20) is None


@pytest.mark.parametrize("draw", [cost, learning, losses, unlabelled, gap, forest])
def test_every_figure_marks_what_is_incomplete_and_tells_the_draws(draw: Any) -> None:
    text = words(draw(incomplete(), 20))
    assert "beta (2/3)" in text and "alpha (" not in text and "2 to 3 draws" in text
    whole = words(draw(several(), 20))
    assert "/3)" not in whole and " 3 draws" in whole


def incomplete() -> Group:
    """Two rows at two ratios with three draws, of which the second row lacks one at the greater ratio."""
    return only(*(
        record(name, ratio, fold, counts=made_counts(5 * place + fold), history=history(loss=1.0, **{"g/a": 0.0}))
        for place, name in enumerate(("alpha", "beta")) for ratio in (10, 20) for fold in range(3)
        if (name, ratio, fold) != ("beta", 20, 2)
    ))  # fmt: skip


def test_incomplete_points_of_a_curve_over_ratios_are_hollow() -> None:
    figure = ratio_curves(incomplete())
    lacking = [list(line.get_ydata()) for line in marks(figure, "incomplete") if len(line.get_ydata())]
    assert lacking == [[rows_at(incomplete(), 20)["mean"]["beta"]]]
    assert "2 to 3 draws a point" in words(figure) and "Hollow:" in words(figure)
    assert short("x" * 40, 20, "(2/3)").endswith("x (2/3)") and len(short("x" * 40, 20, "(2/3)")) == 20
    assert short("mean (method.decay=0.999)", 20) == "mean (decay=0.999)"


# Training


def test_learning_curves_are_pooled_dice_at_a_half() -> None:
    half = 25  # 0.5 = 25 * 0.02
    wanted = 100 * np.mean([dice(made_counts(seed)["test_pooled"][:, 0, half]) for seed in range(3)], 0)
    assert list(marks(learning(several(), 20), "mean")[0].get_ydata()) == pytest.approx(list(wanted))
    no_pool = {key: value for key, value in made_counts().items() if key != "test_pooled"}
    assert learning(only(record(counts=no_pool)), 20) is None


def test_draws_with_other_steps_are_not_averaged() -> None:
    records = [record(fold=fold, counts=made_counts(fold), history=history(loss=1.0 + fold)) for fold in range(2)]
    figure = losses(only(*records, record(fold=2, history=[{"step": 7, "loss": 100.0}])), 20)
    assert [list(line.get_ydata()) for line in marks(figure, "mean")] == [[1.5, 3.0, 4.5, 6.0]]
    assert "alpha (2/3)" in words(figure)


def test_only_curves_that_always_add_up_to_one_are_shares() -> None:
    lines = [
        {"step": 1, "gate/one/a": 0.3, "gate/one/b": 0.7, "gate/two/a": 0.5, "gate/two/b": 0.5, "loss/a": 0.2,
         "loss/b": 0.8, "alone/a": 1.0, "plain": 1.0, "signed/a": -1.0, "signed/b": 2.0},
        {"step": 2, "gate/one/a": 0.4, "gate/one/b": 0.6, "gate/two/a": 0.5, "gate/two/b": 0.6, "loss/a": 0.1,
         "loss/b": 0.2, "alone/a": 1.0, "plain": 1.0, "signed/a": -1.0, "signed/b": 2.0},
    ]  # fmt: skip
    group = only(record("alpha", history=lines), record("beta", history=history(loss=1.0)))
    figure = watched(group, 20)
    assert figure and [axes.get_title(loc="left") for axes in figure.axes] == ["alpha\ngate/one"]
    assert [list(line.get_ydata()) for line in marks(figure, "mean")] == [[0.3, 0.4], [0.7, 0.6]]
    assert "gate/one" not in words(losses(group, 20)) and "gate/two/a" in words(losses(group, 20))
    assert watched(several(), 20) is None and losses(only(record()), 20) is None


def test_many_names_in_one_picture_share_styles() -> None:
    group = only(record(history=history(**{f"loss{number}": 1.0 + number for number in range(60)})))
    assert len(marks(losses(group, 20), "mean")) == 60


def test_pseudo_labels_are_scored_on_the_masks_of_validation_images() -> None:
    counts = made_counts(4)
    figure = unlabelled(only(record("alpha", counts=counts), record("beta", status="failed")), 20)
    half = int(np.argmin(np.abs(counts["thresholds"] - 0.5)))
    found, mask = counts["raw_validation"][:, 1] > counts["thresholds"][half], counts["raw_validation_mask"]
    by_hand = [100 * 2 * (one & mask).sum() / (one.sum() + mask.sum()) for one in found]
    assert list(marks(figure, "mean")[1].get_ydata()) == pytest.approx(by_hand)
    assert "main" in words(figure) and "other" in words(figure)
    assert unlabelled(only(record(counts=made_counts(validation=False))), 20) is None


# Pictures


def test_images_are_chosen_by_rule() -> None:
    names = [f"i{k:02}" for k in range(21)]
    scores = pd.DataFrame({"alpha": np.arange(21) / 20}, names)
    assert choose_images(scores) == {"median": "i10", "worst decile": "i02"}
    scores["beta"] = scores.alpha.where(scores.index != "i15", 0.0)
    scores.loc["undefined"] = [np.nan, 1.0]
    assert choose_images(scores)["largest disagreement"] == "i15"
    assert choose_images(scores[:0]) == {} and choose_images(scores[:1]) == {"median": "i00"}


def test_a_panel_outlines_the_truth_copes_with_empty_and_full_masks_and_stays_narrow() -> None:
    masks = [np.zeros((20, 30), bool), np.ones((20, 30), bool), np.eye(20, 30, dtype=bool)]
    names = {f"row {k}": NASTY if k else "alpha" for k in range(15)}
    images = tuple(
        Shown("an image of $5", "median", np.full((8, 8, 3), 200, np.uint8), truth,
              {row: masks[k % 3] for k, row in enumerate(names)}, dict.fromkeys(names, 0.5)) for truth in masks
    )  # fmt: skip
    figure = panel(Selection("a title", 20, "20 % of the labels", (0, 0), names, images))
    assert figure.get_figwidth() <= 12 and len(figure.axes) == 3 * 4 * 6
    outlines = [len(axes.collections) for axes in figure.axes if axes.images]
    assert outlines == [0] * 34 + [0] + [1] * 16  # a truth that is empty or full has no outline, nor has an image


def test_an_overlay_has_a_colour_for_every_kind_of_pixel() -> None:
    truth, found = np.zeros((7, 9), bool), np.zeros((7, 9), bool)
    truth[1:6, 1:6], found[1:6, 3:8] = True, True
    with Image.open(io.BytesIO(image_selection.overlay(found, truth))) as opened:
        picture = np.asarray(opened.convert("RGBA"))
    assert picture[3, 4].tolist() == [0, 0x9E, 0x73, round(255 * 0.45)]
    assert picture[3, 7, :3].tolist() == [0xE6, 0x9F, 0] and picture[3, 2, :3].tolist() == [0, 0x72, 0xB2]
    assert picture[1, 1, :3].tolist() == [0, 0, 0] and picture[0, 0, 3] == 0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods' runs on synthetic images, with their masks."""
    folder = tmp_path_factory.mktemp("pictures")
    for method in ("supervised", "entropy_minimisation"):
        assert demo_run(folder, method).returncode == 0
    return folder


def test_selected_images_have_the_dice_of_their_masks_and_small_pictures(results: Path) -> None:
    (group,) = group_runs(check_records(results))
    chosen, reason = select_images(group, results)
    assert chosen and reason == "" and (chosen.ratio, chosen.draw) == (20, (0, 0))
    assert [shown.rule for shown in chosen.images] == ["median", "worst decile", "largest disagreement"]
    for shown in chosen.images:
        for row, mask in shown.masks.items():
            score = 2 * (mask & shown.truth).sum() / (mask.sum() + shown.truth.sum())
            assert shown.dice[row] == pytest.approx(score)
    image, truth, overlays = thumbnails(chosen.images[0])
    for content in (image, truth, *overlays.values()):
        with Image.open(io.BytesIO(content)) as opened:
            assert opened.mode == "P" and max(opened.size) <= 192
    assert len(image) + sum(map(len, overlays.values())) < 60_000


def test_a_panel_is_drawn_and_pictures_of_others_data_stay_local(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (group,) = group_runs(check_records(results))
    assert tmp_path / "synthetic-official-demo-panel.png" in draw_all(group, results, tmp_path, ("png",))
    monkeypatch.setattr("benchmark.report.figures.images_shareable", lambda dataset: False)
    assert draw_all(group, results, tmp_path, ("png",))[-1].parent == tmp_path / "local"
    assert (tmp_path / "local" / ".gitignore").read_text() == "*\n"
    assert not image_selection.images_shareable("glas") and not image_selection.images_shareable("unheard of")


def test_missing_or_damaged_masks_and_other_images_are_told(results: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(results, tmp_path / "copy")
    (group,) = group_runs(check_records(copy))
    other = replace(group, fingerprint="other")
    assert select_images(other, copy) == (None, "the prepared images are not those of the runs")
    path = copy / "runs" / group.runs[0].record["run_id"] / "masks.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert f"the masks of {group.runs[0].record['run_id']} are damaged" in select_images(group, copy)[1]
    path.unlink()
    found, _ = select_images(group, copy)
    assert found and len(found.names) == 1
    shutil.rmtree(copy / "runs")
    assert select_images(group, copy) == (None, "no finished run has its masks here")
