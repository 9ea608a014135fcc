"""Scores in figures: rows with their intervals, over label ratios, image by image, between protocols, against cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report import stats
from benchmark.report.compare import compare
from benchmark.report.figures.names import name_ends
from benchmark.report.figures.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    PALE,
    SMALL,
    VERMILION,
    figure_of,
    limits,
    outer_labels,
    sheet,
    short,
    small_multiples,
    with_gaps,
)
from benchmark.report.render import part, spread
from benchmark.report.results_frame import Group
from benchmark.report.stats import draws_in_words

LINE = 0.235  # inches a row
LETTER = 0.072  # inches a letter of a row's name
TOGETHER = 5  # rows that one pair of axes takes
MARKERS = ("o", "s", "^", "D", "v", "P")


def rows_at(group: Group, ratio: int) -> pd.DataFrame:
    """The rows with a strict Dice at this ratio, in percent, best first, equals by name.

    `name`: in one line; `part`: "" or what is missing of its draws; `shade`: the reference stands out.
    """
    cells = group.cell_scores().reset_index()
    found = cells[(cells.ratio == ratio) & (cells.n > 0)].set_index("row", drop=False).rename_axis(None)
    found["part"] = [part(n, expected) for n, expected in zip(found.n, found.expected, strict=True)]
    found["name"] = [short(group.display(row), 34, lacking) for row, lacking in found.part.items()]
    found["shade"] = [colour(group, row) for row in found.index]
    return found.sort_values(["mean", "row"], ascending=[False, True])


def colour(group: Group, row: str) -> str:
    """The row that others are compared with stands out."""
    return VERMILION if row == group.reference else BLUE


def forest(group: Group, ratio: int) -> Figure | None:
    """Every row's strict Dice with its interval, best first, and beside it the paired difference to the reference.

    Rows at greater ratios that stand alone there are upper bounds, above all others. None with fewer than two rows.
    """
    rows, reference = rows_at(group, ratio), str(group.reference)
    if len(rows) < 2:
        return None
    bounds = [found for other in group.ratios if other > ratio and len(found := rows_at(group, other)) == 1]
    for bound in bounds:
        bound["name"] = [f"{short(group.display(row), 26)}, {at} % {lacking}".strip()
                         for row, at, lacking in zip(bound.row, bound.ratio, bound.part, strict=True)]  # fmt: skip
        bound["shade"] = GREY
    every = pd.concat([*bounds, rows])
    note = "Small circles: draws. " if (rows.n > 1).any() else ""
    note += "Bar: 95 % interval over patients (images where there are none)."
    if reference in rows.index:
        note += (
            f" Right: mean difference to {short(group.display(reference))} in the draws that both have, paired by "
            "image, and its own 95 % interval; filled where that leaves out zero, not adjusted for the number of rows. "
            "Overlapping bars on the left say little about a difference, which is paired."
        )
    if without := [row for row, other in group.cells.index if other == ratio and row not in rows.index]:
        note += f" Without a score here: {', '.join(short(group.display(row)) for row in without)}."
    about = f"{group.title} · strict protocol · {draws_in_words(rows.n)} a row"
    widths, right = ([3.3, 2.0], 0.15) if reference in rows.index else ([4.4], 1.15)
    left, *others = sheet(
        (f"Dice with {ratio} % of the labels", about, note), widths, [LINE * len(every) + 0.1],
        left=0.25 + LETTER * every.name.str.len().max(), right=right, gap=(1.15, 0),
    )  # fmt: skip
    draws, values = group.draw_scores("dice")["strict"], [*every.low, *every.high]
    for place, row in enumerate(every.itertuples()):
        text: dict[str, Any] = {"transform": left.get_yaxis_transform(), "va": "center"}
        ink = VERMILION if row.shade == VERMILION else INK
        left.text(-0.015, place, row.name, ha="right", color=ink, gid="name", **text)
        left.text(1.015, place, spread(row._asdict()), fontsize=SMALL, color=GREY, gid="score", **text)
        left.hlines(place, row.low, row.high, color=row.shade, lw=2.2, alpha=0.45, gid="interval")
        single = draws[row.row, row.ratio]
        left.plot(single, [place] * len(single), "o", ms=3.6, mfc="white", mec=GREY, mew=0.7, zorder=3, gid="draws")
        left.plot(row.mean, place, "D" if row.shade == GREY else "o", ms=5.2, color=row.shade, zorder=4, gid="mean")
        values += single
    list_rows(left, len(every), "Dice (%)", values)
    for axes in others:
        left.axvline(rows["mean"][reference], color=VERMILION, lw=0.7, ls=(0, (4, 3)))
        axes.axvline(0, color=VERMILION, lw=0.7, ls=(0, (4, 3)))
        seen = [0.0]
        for place, (row, at) in enumerate(zip(every.row, every.ratio, strict=True)):
            if row != reference and at == ratio:
                seen += _difference(axes, place, compare(group, row, reference, ratio).mean(axis=1))
        list_rows(axes, len(every), f"points above {short(group.display(reference), 20)}", seen)
    return figure_of(left)


def _difference(axes: Axes, place: int, difference: pd.Series) -> list[float]:
    """A mean with its interval, filled where that leaves out zero; nothing without images."""
    if difference.empty:
        return []
    middle, bounds = 100 * difference.mean(), stats.interval(difference)
    low, high = (100 * bounds.low, 100 * bounds.high) if bounds else (middle, middle)
    fill = BLUE if bounds and (low > 0 or high < 0) else "white"
    axes.plot([low, high], [place] * 2, color=BLUE, lw=1.2, gid="interval")
    axes.plot(middle, place, "o", ms=4.6, mfc=fill, mec=BLUE, mew=1.0, zorder=3, gid="mean")
    return [middle, low, high]


def list_rows(axes: Axes, number: int, label: str, values: list[float]) -> None:
    """Rows from above, without an axis of their own."""
    axes.set(ylim=(number - 0.5, -0.5), yticks=[], xlim=limits(values), xlabel=label)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")


def scatter(group: Group, ratio: int) -> Figure | None:
    """The best row against the reference, image by image, in the draws that both have; None where none has any."""
    reference, rows = str(group.reference), rows_at(group, ratio)
    differences = {row: compare(group, row, reference, ratio) for row in rows.index if row != reference}
    pairs = {row: found for row, found in differences.items() if len(found)}
    if not pairs:
        return None
    best, difference = next(iter(pairs.items()))
    common = [group.by_image(row, ratio)[difference.columns].where(difference.notna()) for row in (reference, best)]
    x, y = (100 * scores.mean(axis=1).dropna() for scores in common)
    names = [short(group.display(row)) for row in (reference, best)]
    note = "Every mark is a test image, averaged over the draws that both have."
    if len(pairs) > 1:
        note += f" {names[1]} has the highest mean of {len(pairs)} rows on these very images, so it looks better here "
        note += "than it is."
    about = f"{group.title} · strict protocol · {draws_in_words([len(difference.columns)])}"
    (axes,) = sheet((f"Image by image, {ratio} % of the labels", about, note), [3.9], [3.9], left=0.65, right=0.25)
    ends = limits([*x, *y], 0.04)
    axes.plot(ends, ends, color=GREY, lw=0.8)
    kinds = _subsets(group, x.index)
    for number, (kind, members) in enumerate(kinds.groupby(kinds)):
        axes.plot(x[members.index], y[members.index], MARKERS[number], ms=4.6, color=COLOURS[number], alpha=0.75,
                  mec="white", mew=0.4, label=f"{kind} (n={len(members)})", gid="images")  # fmt: skip
    axes.set(xlim=ends, ylim=ends, xlabel=f"Dice (%), {names[0]}", ylabel=f"Dice (%), {names[1]}")
    text: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SMALL, "color": INK}
    axes.text(0.02, 0.98, f"better in {(y > x).sum()}", va="top", **text)
    axes.text(0.98, 0.02, f"worse in {(y < x).sum()}", ha="right", **text)
    if kinds.nunique() > 1:
        axes.legend(fontsize=SMALL, loc="upper left", bbox_to_anchor=(0, 0.95), frameon=False, handletextpad=0.1,
                    borderaxespad=0.1)  # fmt: skip
    return figure_of(axes)


def _subsets(group: Group, images: pd.Index) -> pd.Series:
    """What is known of these images: the first of the group's subsets that tells two to six kinds apart."""
    for name in group.subsets:
        of = group.images.dropna(subset=[name]).drop_duplicates("image").set_index(["unit", "image"])[name]
        if 2 <= (found := of.reindex(images).fillna("")).nunique() <= len(MARKERS):
            return found
    return pd.Series("", images)


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
    note = "Bars: 95 % intervals over patients (images where there are none)."
    if cells.part.any():
        note += " Hollow: only some of the wanted draws have a score."
    about = f"{group.title} · strict protocol · {draws_in_words(cells.n)} a point"
    heading, ends = "Dice against the share of labelled images", []
    if len(lines) <= TOGETHER:
        right = 0.35 + 0.075 * max(len(short(group.display(row))) for row in lines)
        pictures = sheet((heading, about, note), [4.6], [3.1], left=0.65, right=right)
        left = [shade for shade in COLOURS if shade != VERMILION or group.reference not in lines]
        for number, (row, line) in enumerate(lines.items()):
            shade = VERMILION if row == group.reference else left.pop(0)
            line = line.assign(x=line.x + 0.3 * ((number + 0.5) / len(lines) - 0.5), shade=shade)
            _curve(pictures[0], line, MARKERS[number])
            ends.append((line.x.iloc[-1], line["mean"].iloc[-1], short(group.display(row)), shade))
        pictures[0].set(xlabel="labelled training images", ylabel="Dice (%)")
    else:
        single = len(lines) - len(several)
        note += " Grey: all other rows"
        note += f"; small dots are {single} rows that have one ratio only." if single else "."
        pictures = small_multiples((heading, about, note), len(several), (1.65, 1.35), 5, gap=(0.2, 0.34))
        everything = with_gaps([(line.x, line["mean"]) for line in lines.values()])
        for axes, row in zip(pictures, several, strict=True):
            axes.plot(*everything, color=PALE, lw=0.8, zorder=1.5)
            for line in lines.values():
                if len(line) == 1:
                    fill = "white" if line.part.any() else PALE
                    axes.plot(line.x, line["mean"], color=PALE, marker=".", ms=4, mfc=fill, zorder=1.5)
            _curve(axes, lines[row], "o")
            axes.set_title(short(group.display(row), 24), fontsize=8, loc="left", pad=3, color=INK)
        outer_labels(pictures, "labelled images", "Dice (%)")
    for axes in pictures:
        axes.set_xticks(range(len(ratios)), [f"{ratio} %" for ratio in ratios])
        axes.set(xlim=(-0.3, len(ratios) - 0.7), ylim=limits([*cells["mean"], *cells.low, *cells.high]))
        axes.grid(False, axis="x")
    name_ends(pictures[0], ends)
    return figure_of(pictures[0])


def _curve(axes: Axes, line: pd.DataFrame, marker: str) -> None:
    style: dict[str, Any] = {"color": line.shade.iloc[0], "marker": marker, "ms": 4.5}
    errors = np.nan_to_num([np.maximum(line["mean"] - line.low, 0), np.maximum(line.high - line["mean"], 0)])
    axes.errorbar(line.x, line["mean"], yerr=errors, lw=1.4, elinewidth=0.9, capsize=2, gid="row", **style)
    lacking = line[line.part != ""]
    axes.plot(lacking.x, lacking["mean"], ls="", mfc="white", zorder=3, gid="incomplete", **style)
