"""Scores in figures: rows with their intervals, over label ratios, image by image, between protocols, against cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmark.report import stats
from benchmark.report.compare import compare
from benchmark.report.figures.names import name_ends, name_points
from benchmark.report.figures.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    PALE,
    SMALL,
    VERMILION,
    limits,
    outer_labels,
    sheet,
    short,
    small_multiples,
    with_gaps,
)
from benchmark.report.gap import left_out, protocol_gaps
from benchmark.report.results_frame import Group
from benchmark.report.stats import draws_in_words
from benchmark.report.table import part, signed, spread

LINE = 0.235  # inches a row
LETTER = 0.072  # inches a letter of a row's name
TOGETHER = 5  # rows that one pair of axes takes
MARKERS = ("o", "s", "^", "D", "v", "P")
GAP_TITLES = ("official\noutput", "last\nstep", "threshold\n0.5", "mean over\nimages", "native\nsize", "together")
COST_AXES = {  # key of the record's cost -> what the axis says, a unit, and whether it depends on the device
    "flops_per_step": ("GFLOPs a training step", 1e9, False),
    "parameters_trained": ("million trained parameters", 1e6, False),
    "seconds_per_step": ("seconds a step", 1.0, True),
}


def rows_at(group: Group, ratio: int) -> pd.DataFrame:
    """The rows with a strict Dice at this ratio, in percent, best first, equals by name; `part` is "" or e.g. (2/3)."""
    cells = group.cell_scores().reset_index()
    found = cells[(cells.ratio == ratio) & (cells.n > 0)].set_index("row", drop=False).rename_axis(None)
    found["part"] = [part(n, expected) for n, expected in zip(found.n, found.expected, strict=True)]
    return found.sort_values(["mean", "row"], ascending=[False, True])


def colour(group: Group, row: str) -> str:
    """The row that others are compared with stands out."""
    return VERMILION if row == group.reference else BLUE


def forest(group: Group, ratio: int) -> Figure | None:
    """Every row's strict Dice with its interval, best first, and beside it the paired difference to the reference.

    Rows at greater ratios that stand alone there are upper bounds, above all others. None with fewer than two rows.
    """
    rows = rows_at(group, ratio)
    if len(rows) < 2:
        return None
    above = [found for other in group.ratios if other > ratio and len(found := rows_at(group, other)) == 1]
    every = pd.concat([*above, rows])
    names = [
        short(group.display(row.row), 34, row.part) if row.ratio == ratio
        else f"{short(group.display(row.row), 26)}, {row.ratio} % {row.part}".strip() for row in every.itertuples()
    ]  # fmt: skip
    reference = group.reference if group.reference in rows.index else None
    note = "Small circles: draws. " if (rows.n > 1).any() else ""
    note += "Bar: 95 % interval over patients (images where there are none)."
    if reference:
        note += (
            f" Right: mean difference to {short(group.display(reference))} in the draws that both have, paired by "
            "image, and its own 95 % interval; filled where that leaves out zero, not adjusted for the number of rows. "
            "Overlapping bars on the left say little about a difference, which is paired."
        )
    if without := [row for row, other in group.cells.index if other == ratio and row not in rows.index]:
        note += f" Without a score here: {', '.join(short(group.display(row)) for row in without)}."
    about = f"{group.title} · strict protocol · {draws_in_words(rows.n)} a row"
    left, *right = sheet(
        (f"Dice with {ratio} % of the labels", about, note), [3.3, 2.0] if reference else [4.4],
        [LINE * len(every) + 0.1], left=0.25 + LETTER * max(map(len, names)), right=0.15 if reference else 1.15,
        gap=(1.15, 0),
    )  # fmt: skip
    draws = group.draw_scores("dice")["strict"]
    values = [*every.low, *every.high]
    for place, (row, name) in enumerate(zip(every.itertuples(), names, strict=True)):
        shade = colour(group, row.row) if row.ratio == ratio else GREY
        text: dict[str, Any] = {"transform": left.get_yaxis_transform(), "va": "center"}
        left.text(-0.015, place, name, ha="right", color=VERMILION if shade == VERMILION else INK, gid="name", **text)
        left.text(1.015, place, spread(row._asdict()), fontsize=SMALL, color=GREY, gid="score", **text)
        left.hlines(place, row.low, row.high, color=shade, lw=2.2, alpha=0.45, gid="interval")
        single = draws[row.row, row.ratio]
        left.plot(single, [place] * len(single), "o", ms=3.6, mfc="white", mec=GREY, mew=0.7, zorder=3, gid="draws")
        left.plot(row.mean, place, "D" if shade == GREY else "o", ms=5.2, color=shade, zorder=4, gid="mean")
        values += [*single]
    _list_rows(left, len(every), "Dice (%)", values)
    if reference:
        left.axvline(rows["mean"][reference], color=VERMILION, lw=0.7, ls=(0, (4, 3)))
        right[0].axvline(0, color=VERMILION, lw=0.7, ls=(0, (4, 3)))
        _list_rows(right[0], len(every), f"points above {short(group.display(reference), 20)}",
                   [0.0, *_differences(right[0], group, ratio, every, reference)])  # fmt: skip
    return left.figure  # type: ignore[return-value]


def _differences(axes: Axes, group: Group, ratio: int, rows: pd.DataFrame, reference: str) -> list[float]:
    """A line a row, of the draws that it shares with the reference; that, and bounds at other ratios, have none."""
    seen = []
    for place, row in enumerate(rows.itertuples()):
        difference = compare(group, row.row, reference, ratio).mean(axis=1)
        if row.row == reference or row.ratio != ratio or difference.empty:
            continue
        middle, bounds = 100 * difference.mean(), stats.interval(difference)
        low, high = (100 * bounds.low, 100 * bounds.high) if bounds else (middle, middle)
        clear = bounds is not None and (low > 0 or high < 0)
        axes.plot([low, high], [place] * 2, color=BLUE, lw=1.2, gid="interval")
        axes.plot(middle, place, "o", ms=4.6, mfc=BLUE if clear else "white", mec=BLUE, mew=1.0, zorder=3, gid="mean")
        seen += [middle, low, high]
    return seen


def _list_rows(axes: Axes, number: int, label: str, values: list[float]) -> None:
    """Rows from above, without an axis of their own."""
    axes.set(ylim=(number - 0.5, -0.5), yticks=[], xlim=limits(values), xlabel=label)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")


def gap(group: Group, ratio: int) -> Figure | None:
    """`paper` and `strict` of every row, and what each choice that is taken back changes; None without a waterfall."""
    found = sorted((gap for gap in protocol_gaps(group) if gap.ratio == ratio), key=lambda gap: (gap.whole, gap.row))
    if not found:
        return None
    names = [short(group.display(each.row), 34, part(each.n, each.expected)) for each in found]
    note = (
        "Left: hollow, best output, step and threshold chosen on the test images; filled, strict. Right: points gained "
        "(blue) or lost (orange) as one choice after the other is taken back, in this order. "
        f"{left_out(group, found, [ratio])}"
    ).strip()
    draws = draws_in_words(each.n for each in found)
    about = f"{group.title} · Dice in percent, mean over {draws} · the greatest fall first"
    left, *others = sheet(
        (f"From the paper's protocol to the strict one, {ratio} % of the labels", about, note),
        [2.6] + [0.62] * len(GAP_TITLES), [LINE * len(found) + 0.1], left=0.25 + LETTER * max(map(len, names)),
        right=0.2, gap=(0.06, 0),
    )  # fmt: skip
    ends = np.array([(each.stops[0], each.stops[-1]) for each in found])
    places = range(len(found))
    left.hlines(places, ends[:, 1], ends[:, 0], color=GREY, lw=1.1, zorder=2)
    left.plot(ends[:, 0], places, "o", ms=5, mfc="white", mec=VERMILION, mew=1.3, zorder=3, gid="paper")
    left.plot(ends[:, 1], places, "o", ms=5, color=BLUE, zorder=3, gid="strict")
    _list_rows(left, len(found), "Dice (%)", [*ends.ravel()])
    left.set_yticks(places, names)
    left.tick_params(axis="y", length=0)
    changes = np.array([[*each.changes, each.whole] for each in found])
    opacity = 0.75 * np.sqrt(np.abs(changes) / (np.abs(changes).max() or 1.0))
    for axes, title, values, shades in zip(others, GAP_TITLES, changes.T, opacity.T, strict=True):
        for place, (value, alpha) in enumerate(zip(values, shades, strict=True)):
            axes.barh(place, 1, height=0.88, color=BLUE if value > 0 else VERMILION, alpha=alpha, lw=0)
            shown = signed(value).replace("-", "\N{MINUS SIGN}") if value else "0"
            axes.text(0.5, place, shown, ha="center", va="center", fontsize=SMALL, color=INK)
        axes.set(xlim=(0, 1), ylim=(len(found) - 0.5, -0.5), xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(title, fontsize=SMALL)
    return left.figure  # type: ignore[return-value]


def scatter(group: Group, ratio: int) -> Figure | None:
    """Strict Dice of the best row against the reference's, image by image, in the draws that both have; None where none
    has any."""
    reference = str(group.reference)
    others = [row for row in rows_at(group, ratio).index if row != reference]
    pairs = {row: found for row in others if len(found := compare(group, row, reference, ratio))}
    if not pairs:
        return None
    best, difference = next(iter(pairs.items()))
    x, y = (
        100 * group.by_image(row, ratio)[difference.columns].where(difference.notna()).mean(axis=1).dropna()
        for row in (reference, best)
    )
    names = {row: short(group.display(row)) for row in (reference, best)}
    note = "Every mark is a test image, averaged over the draws that both have."
    if len(pairs) > 1:
        note += f" {names[best]} has the highest mean of {len(pairs)} rows on these very images, so "
        note += "it looks better here than it is."
    about = f"{group.title} · strict protocol · {draws_in_words([len(difference.columns)])}"
    (axes,) = sheet((f"Image by image, {ratio} % of the labels", about, note), [3.9], [3.9], left=0.65, right=0.25)
    ends = limits([*x, *y], 0.04)
    axes.plot(ends, ends, color=GREY, lw=0.8)
    kinds = pd.Series("", x.index)
    for name in group.subsets:
        of = group.images.dropna(subset=[name]).drop_duplicates("image").set_index(["unit", "image"])[name]
        if 2 <= of.reindex(x.index).nunique() <= len(MARKERS):
            kinds = of.reindex(x.index).fillna("")
            break
    for number, (kind, members) in enumerate(kinds.groupby(kinds)):
        axes.plot(x[members.index], y[members.index], MARKERS[number], ms=4.6, color=COLOURS[number], alpha=0.75,
                  mec="white", mew=0.4, label=f"{kind} (n={len(members)})", gid="images")  # fmt: skip
    axes.set(xlim=ends, ylim=ends, xlabel=f"Dice (%), {names[reference]}", ylabel=f"Dice (%), {names[best]}")
    text: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SMALL, "color": INK}
    axes.text(0.02, 0.98, f"better in {(y > x).sum()}", va="top", **text)
    axes.text(0.98, 0.02, f"worse in {(y < x).sum()}", ha="right", **text)
    if kinds.nunique() > 1:
        axes.legend(fontsize=SMALL, loc="upper left", bbox_to_anchor=(0, 0.95), frameon=False, handletextpad=0.1,
                    borderaxespad=0.1)  # fmt: skip
    return axes.figure  # type: ignore[return-value]


def ratio_curves(group: Group) -> Figure | None:
    """Strict Dice against the share of labelled images: a line a row, all in one picture where they are few, else one
    picture a row with the others in grey.

    None where no row has scores at two ratios, or one of many (an upper bound, seen in the forest). A row with a
    single ratio is a point.
    """
    cells = pd.concat([rows_at(group, ratio) for ratio in group.ratios])
    ratios = sorted(cells.ratio.unique())
    cells["x"] = cells.ratio.map(ratios.index)
    lines = {row: cells[cells.row == row] for row in group.rows if row in cells.index}
    several = [row for row, line in lines.items() if len(line) > 1]
    if not several or len(several) == 1 < len(lines):
        return None
    about = f"{group.title} · strict protocol · {draws_in_words(cells.n)} a point"
    note = "Bars: 95 % intervals over patients (images where there are none)."
    if cells.part.any():
        note += " Hollow: only some of the wanted draws have a score."
    heading, names = "Dice against the share of labelled images", {row: short(group.display(row)) for row in lines}
    if len(lines) <= TOGETHER:
        right = 0.35 + 0.075 * max(map(len, names.values()))
        pictures = sheet((heading, about, note), [4.6], [3.1], left=0.65, right=right)
        left = [shade for shade in COLOURS if shade != VERMILION or group.reference not in lines]
        shades = [VERMILION if row == group.reference else left.pop(0) for row in lines]
        ends = []
        for number, (row, line) in enumerate(lines.items()):
            line = line.assign(x=line.x + 0.3 * ((number + 0.5) / len(lines) - 0.5))
            _curve(pictures[0], line, shades[number], MARKERS[number])
            ends.append((line.x.iloc[-1], line["mean"].iloc[-1], names[row], shades[number]))
        pictures[0].set(xlabel="labelled training images", ylabel="Dice (%)")
    else:
        note += " Grey: all other rows"
        single = len(lines) - len(several)
        note += f"; small dots are {single} rows that have one ratio only." if single else "."
        pictures = small_multiples((heading, about, note), len(several), (1.65, 1.35), 5, gap=(0.2, 0.34))
        everything = with_gaps([(line.x, line["mean"]) for line in lines.values()])
        for axes, row in zip(pictures, several, strict=True):
            axes.plot(*everything, color=PALE, lw=0.8, zorder=1.5)
            for line in lines.values():
                if len(line) == 1:
                    axes.plot(line.x, line["mean"], color=PALE, marker=".", ms=4,
                              mfc="white" if line.part.any() else PALE, zorder=1.5)  # fmt: skip
            _curve(axes, lines[row], colour(group, row), "o")
            axes.set_title(short(group.display(row), 24), fontsize=8, loc="left", pad=3, color=INK)
        outer_labels(pictures, "labelled images", "Dice (%)")
    for axes in pictures:
        axes.set_xticks(range(len(ratios)), [f"{ratio} %" for ratio in ratios])
        axes.set(xlim=(-0.3, len(ratios) - 0.7), ylim=limits([*cells["mean"], *cells.low, *cells.high]))
        axes.grid(False, axis="x")
    if len(lines) <= TOGETHER:
        name_ends(pictures[0], ends)
    return pictures[0].figure  # type: ignore[return-value]


def _curve(axes: Axes, line: pd.DataFrame, shade: str, marker: str) -> None:
    errors = [np.maximum(line["mean"] - line.low, 0).fillna(0), np.maximum(line.high - line["mean"], 0).fillna(0)]
    axes.errorbar(line.x, line["mean"], yerr=errors, color=shade, marker=marker, ms=4.5, lw=1.4, elinewidth=0.9,
                  capsize=2, gid="row")  # fmt: skip
    lacking = line[line.part != ""]
    axes.plot(lacking.x, lacking["mean"], ls="", color=shade, marker=marker, ms=4.5, mfc="white", zorder=3,
              gid="incomplete")  # fmt: skip


def cost(group: Group, ratio: int) -> Figure | None:
    """Strict Dice against each cost that at least two rows know, medians over draws; None where there is none. Times
    are those of the device that most runs were timed on."""
    rows = rows_at(group, ratio)
    known = group.costs[(group.costs.ratio == ratio) & group.costs.row.isin(rows.index)]
    device = known.device.value_counts().sort_index(kind="stable").idxmax() if len(known) else ""
    shown = {}
    for key, (label, unit, timed) in COST_AXES.items():
        mine = known[known.device == device] if timed else known
        values = mine.reindex(columns=["row", key]).set_index("row")[key].astype(float).replace(0, math.nan).dropna()
        if values.index.nunique() > 1:
            medians = (values / unit).groupby("row").median()
            shown[f"{label}\n{short(device, 46)}" if timed else label] = medians.reindex(rows.index).dropna()
    if not shown:
        return None
    note = "Medians over draws; logarithmic axes. Operations are counted, not timed, and are the same on every device."
    about = f"{group.title} · strict protocol · {draws_in_words(rows.n)} a row"
    pictures = small_multiples((f"Dice against cost, {ratio} % of the labels", about, note), len(shown), (3.8, 3.6), 2,
                               gap=(0.2, 0.7), below=0.65, titles=0)  # fmt: skip
    for axes, (label, values) in zip(pictures, shown.items(), strict=True):
        low, high = (10**end for end in limits(np.log10(values), 0.16, 0.5))
        axes.set(xscale="log", xlim=(low, high), ylim=limits(rows["mean"], 0.13), xlabel=label)
        ticks = _ticks(low, high)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        points = [
            (value, rows["mean"][row], short(group.display(row), 28, rows.part[row]), colour(group, row))
            for row, value in values.items()
        ]  # fmt: skip
        for x, y, _, shade in points:
            axes.plot(x, y, "o", ms=5, color=shade, mec="white", mew=0.5, zorder=3, gid="row")
        name_points(axes, [(x, y, name, VERMILION if shade == VERMILION else GREY) for x, y, name, shade in points])
        beside = axes.get_position().x0 > pictures[0].get_position().x0
        axes.tick_params(labelleft=not beside)
        axes.set_ylabel("" if beside else "Dice (%)")
    return pictures[0].figure  # type: ignore[return-value]


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 and their tenfolds; more of them where the axis is short."""
    inside: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(np.arange(1, 10, 0.2).round(1))):
        ticks = [step * 10.0**decade for decade in range(-9, 16) for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            break
    return inside
