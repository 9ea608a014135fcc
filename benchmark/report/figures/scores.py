"""Scores in figures: rows with their intervals, over label ratios, image by image, between protocols, against cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from seaborn import heatmap

from benchmark.protocols import STAGES
from benchmark.report import stats
from benchmark.report.compare import compare, left_out, protocol_gaps
from benchmark.report.figures.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    PALE,
    SMALL,
    VERMILION,
    limits,
    list_rows,
    name_ends,
    name_points,
    outer_labels,
    sheet,
    short,
    small_multiples,
    with_gaps,
)
from benchmark.report.render import part, signed, spread
from benchmark.report.results_frame import Group
from benchmark.report.stats import draws_in_words

LINE = 0.235  # inches a row
LETTER = 0.072  # inches a letter of a row's name
TOGETHER = 5  # rows that one pair of axes takes
MARKERS = ("o", "s", "^", "D", "v", "P")
GAP_TITLES = (*("\n".join(stage.rsplit(" ", 1)) for stage in STAGES[1:]), "together")
COST_AXES = {  # key of the record's cost -> what the axis says, a unit, and whether it depends on the device
    "flops_per_step": ("GFLOPs a training step", 1e9, False),
    "parameters_trained": ("million trained parameters", 1e6, False),
    "seconds_per_step": ("seconds a step", 1.0, True),
}


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
    paired, named = reference in rows.index, short(group.display(reference), 20)
    bounds = [found for other in group.ratios if other > ratio and len(found := rows_at(group, other)) == 1]
    for bound in bounds:
        names = zip(bound.row, bound.ratio, bound.part, strict=True)
        bound["name"] = [f"{short(group.display(row), 26)}, {at} % {lacking}".strip() for row, at, lacking in names]
        bound["shade"] = GREY
    every = pd.concat([*bounds, rows])
    note = "Small circles: draws. " if (rows.n > 1).any() else ""
    note += "Bar: 95 % interval over patients (images where there are none)."
    if paired:
        note += (
            f" Right: mean difference to {short(group.display(reference))} in the draws that both have, paired by "
            "image, and its own 95 % interval; filled where that leaves out zero, not adjusted for the number of rows. "
            "Overlapping bars on the left say little about a difference, which is paired."
        )
    if without := [row for row, other in group.cells.index if other == ratio and row not in rows.index]:
        note += f" Without a score here: {', '.join(short(group.display(row)) for row in without)}."
    about = f"{group.title} · strict protocol · {draws_in_words(rows.n)} a row"
    figure, (left, *others) = sheet(
        (f"Dice with {group.labels(ratio)}", about, note), [3.3, 2.0] if paired else [4.4], [LINE * len(every) + 0.1],
        left=0.25 + LETTER * every.name.str.len().max(), right=0.15 if paired else 1.15, gap=(1.15, 0),
    )  # fmt: skip
    draws, values, seen = group.draw_scores("dice")["strict"], [*every.low, *every.high], [0.0]
    text: dict[str, Any] = {"transform": left.get_yaxis_transform(), "va": "center"}
    for axes in others:
        left.axvline(rows["mean"][reference], color=VERMILION, lw=0.7, ls=(0, (4, 3)))
        axes.axvline(0, color=VERMILION, lw=0.7, ls=(0, (4, 3)))
    for place, row in enumerate(every.itertuples()):
        ink = VERMILION if row.shade == VERMILION else INK
        left.text(-0.015, place, row.name, ha="right", color=ink, gid="name", **text)
        left.text(1.015, place, spread(row._asdict()), fontsize=SMALL, color=GREY, gid="score", **text)
        left.hlines(place, row.low, row.high, color=row.shade, lw=2.2, alpha=0.45, gid="interval")
        single = draws[row.row, row.ratio]
        left.plot(single, [place] * len(single), "o", ms=3.6, mfc="white", mec=GREY, mew=0.7, zorder=3, gid="draws")
        left.plot(row.mean, place, "D" if row.shade == GREY else "o", ms=5.2, color=row.shade, zorder=4, gid="mean")
        values += single
        if paired and row.row != reference and row.ratio == ratio:
            seen += _difference(others[0], place, compare(group, row.row, reference, ratio).mean(axis=1))
    list_rows(left, len(every), "Dice (%)", values)
    for axes in others:
        list_rows(axes, len(every), f"points above {named}", seen)
    return figure


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
    figure, (axes,) = sheet((f"Image by image, {group.labels(ratio)}", about, note), [3.9], [3.9], right=0.25)
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
        axes.legend(fontsize=SMALL, loc="lower right", bbox_to_anchor=(1, 0.05), frameon=False, handletextpad=0.1,
                    borderaxespad=0.1)  # fmt: skip
    return figure


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
    words, together = ("Dice against the share of labelled images", about), len(lines) <= TOGETHER
    if together:
        right = 0.35 + 0.075 * max(len(short(group.display(row))) for row in lines)
        figure, pictures = sheet((*words, note), [4.6], [3.1], right=right)
        pictures[0].set(xlabel="labelled training images", ylabel="Dice (%)")
    else:
        single = len(lines) - len(several)
        note += f" Grey: all other rows{f'; small dots are {single} rows that have one ratio only' if single else ''}."
        figure, pictures = small_multiples((*words, note), len(several), (1.65, 1.35), 5, left=0.6, gap=(0.2, 0.34))
        outer_labels(pictures, "labelled images", "Dice (%)")
    for axes in pictures:
        axes.set_xticks(range(len(ratios)), [f"{ratio} %" for ratio in ratios])
        axes.set(xlim=(-0.3, len(ratios) - 0.7), ylim=limits([*cells["mean"], *cells.low, *cells.high]))
        axes.grid(False, axis="x")
    if together:
        ends, free = [], [shade for shade in COLOURS if shade != VERMILION or group.reference not in lines]
        for number, (row, line) in enumerate(lines.items()):
            shade = VERMILION if row == group.reference else free.pop(0)
            line = line.assign(x=line.x + 0.3 * ((number + 0.5) / len(lines) - 0.5), shade=shade)
            _curve(pictures[0], line, MARKERS[number])
            ends.append((line.x.iloc[-1], line["mean"].iloc[-1], short(group.display(row)), shade))
        name_ends(pictures[0], ends)
        return figure
    everything = with_gaps([(line.x, line["mean"]) for line in lines.values()])
    dots = cells[~cells.row.isin(several)]
    for axes, row in zip(pictures, several, strict=True):
        axes.plot(*everything, color=PALE, lw=0.8, zorder=1.5)
        axes.plot(dots.x, dots["mean"], ".", color=PALE, ms=4, zorder=1.5)
        _curve(axes, lines[row], "o")
        axes.set_title(short(group.display(row), 24), fontsize=8, loc="left", pad=3, color=INK)
    return figure


def _curve(axes: Axes, line: pd.DataFrame, marker: str) -> None:
    style: dict[str, Any] = {"color": line.shade.iloc[0], "marker": marker, "ms": 4.5}
    errors = np.nan_to_num([np.maximum(line["mean"] - line.low, 0), np.maximum(line.high - line["mean"], 0)])
    axes.errorbar(line.x, line["mean"], yerr=errors, lw=1.4, elinewidth=0.9, capsize=2, gid="row", **style)
    lacking = line[line.part != ""]
    axes.plot(lacking.x, lacking["mean"], ls="", mfc="white", zorder=3, gid="incomplete", **style)


def gap(group: Group, ratio: int) -> Figure | None:
    """`paper` and `strict` of every row, and what each choice that is taken back changes; None without a waterfall."""
    found = sorted((gap for gap in protocol_gaps(group) if gap.ratio == ratio), key=lambda gap: (gap.whole, gap.row))
    if not found:
        return None
    names = [short(group.display(each.row), 34, part(each.n, each.expected)) for each in found]
    note = (
        "Left: hollow, best output, step and threshold chosen on the test images; filled, strict. Right: points gained "
        "(blue) or lost (orange) as one choice after the other is taken back, in this order."
    )
    draws = draws_in_words(each.n for each in found)
    words = (
        f"From the paper's protocol to the strict one, {group.labels(ratio)}",
        f"{group.title} · Dice in percent, mean over {draws} · the greatest fall first",
        " ".join([note, *left_out(group, found, [ratio])]),
    )
    widths, start = [2.6, 0.68 * len(GAP_TITLES) - 0.05], 0.25 + LETTER * max(map(len, names))
    figure, (left, right) = sheet(words, widths, [LINE * len(found) + 0.1], left=start, gap=(0.1, 0))
    ends, places = np.array([(each.stops[0], each.stops[-1]) for each in found]), range(len(found))
    left.hlines(places, ends[:, 1], ends[:, 0], color=GREY, lw=1.1, zorder=2)
    left.plot(ends[:, 0], places, "o", ms=5, mfc="white", mec=VERMILION, mew=1.3, zorder=3, gid="paper")
    left.plot(ends[:, 1], places, "o", ms=5, color=BLUE, zorder=3, gid="strict")
    list_rows(left, len(found), "Dice (%)", [*ends.ravel()])
    left.set_yticks(places, names)
    left.tick_params(axis="y", length=0)
    changes = np.array([[*each.changes, each.whole] for each in found])
    texts = [[signed(value).replace("-", "\N{MINUS SIGN}") if value else "0" for value in row] for row in changes]
    shades = np.sign(changes) * 0.75 * np.sqrt(np.abs(changes) / (np.abs(changes).max() or 1.0))
    colours = LinearSegmentedColormap.from_list("", [VERMILION, "white", BLUE])
    heatmap(shades, annot=np.array(texts), fmt="", cmap=colours, vmin=-1, vmax=1, cbar=False, linewidths=2, ax=right,
            annot_kws={"size": SMALL, "color": INK}, xticklabels=GAP_TITLES, yticklabels=False)  # fmt: skip
    right.tick_params(length=0, labelsize=SMALL)
    return figure


def cost(group: Group, ratio: int) -> Figure | None:
    """Strict Dice against each cost that at least two rows know, medians over draws; None where there is none. Times
    are those of the device that most runs were timed on."""
    rows = rows_at(group, ratio)
    known = group.costs[(group.costs.ratio == ratio) & group.costs.row.isin(rows.index)]
    device = known.device.value_counts().sort_index().idxmax() if len(known) else ""
    shown = {}
    for key, (label, unit, timed) in COST_AXES.items():
        mine = (known[known.device == device] if timed else known).reindex(columns=["row", key]).set_index("row")[key]
        medians = (mine.astype(float).replace(0, math.nan).dropna() / unit).groupby("row").median()
        if len(medians) > 1:
            shown[f"{label}\n{short(device, 46)}" if timed else label] = medians.reindex(rows.index).dropna()
    if not shown:
        return None
    note = "Medians over draws; logarithmic axes. Operations are counted, and are the same on every device. "
    note += "Seconds are longer where other jobs used the machine."
    about = f"{group.title} · strict protocol · {draws_in_words(rows.n)} a row"
    words = f"Dice against cost, {group.labels(ratio)}", about, note
    figure, pictures = small_multiples(words, len(shown), (3.8, 3.6), 2, left=0.6, gap=(0.2, 0.7), below=0.65, titles=0)
    for number, (axes, (label, values)) in enumerate(zip(pictures, shown.items(), strict=True)):
        low, high = (10**end for end in limits(np.log10(values), 0.16, 0.5))
        axes.set(xscale="log", xlim=(low, high), ylim=limits(rows["mean"], 0.13), xlabel=label)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        found = rows.loc[values.index]
        axes.scatter(values, found["mean"], 25, found.shade, edgecolor="white", linewidth=0.5, zorder=3, gid="row")
        names = [short(group.display(row), 28, lacking) for row, lacking in found.part.items()]
        name_points(axes, list(zip(values, found["mean"], names, found.shade.replace(BLUE, GREY), strict=True)))
        axes.tick_params(labelleft=number % 2 == 0)
        axes.set_ylabel("" if number % 2 else "Dice (%)")
    return figure
