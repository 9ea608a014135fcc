"""Scores against what made them: the choices between two protocols, and what a method costs."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmark.report.compare import left_out, protocol_gaps
from benchmark.report.figures.names import name_points
from benchmark.report.figures.scores import LETTER, LINE, list_rows, rows_at
from benchmark.report.figures.style import (
    BLUE,
    GREY,
    INK,
    SMALL,
    VERMILION,
    figure_of,
    limits,
    sheet,
    short,
    small_multiples,
)
from benchmark.report.render import part, signed
from benchmark.report.results_frame import Group
from benchmark.report.stats import draws_in_words

GAP_TITLES = ("official\noutput", "last\nstep", "threshold\n0.5", "mean over\nimages", "native\nsize", "together")
COST_AXES = {  # key of the record's cost -> what the axis says, a unit, and whether it depends on the device
    "flops_per_step": ("GFLOPs a training step", 1e9, False),
    "parameters_trained": ("million trained parameters", 1e6, False),
    "seconds_per_step": ("seconds a step", 1.0, True),
}


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
    note = " ".join([note, *left_out(group, found, [ratio])])
    draws = draws_in_words(each.n for each in found)
    about = f"{group.title} · Dice in percent, mean over {draws} · the greatest fall first"
    left, *others = sheet(
        (f"From the paper's protocol to the strict one, {ratio} % of the labels", about, note),
        [2.6] + [0.62] * len(GAP_TITLES), [LINE * len(found) + 0.1], left=0.25 + LETTER * max(map(len, names)),
        right=0.2, gap=(0.06, 0),
    )  # fmt: skip
    ends, places = np.array([(each.stops[0], each.stops[-1]) for each in found]), range(len(found))
    left.hlines(places, ends[:, 1], ends[:, 0], color=GREY, lw=1.1, zorder=2)
    left.plot(ends[:, 0], places, "o", ms=5, mfc="white", mec=VERMILION, mew=1.3, zorder=3, gid="paper")
    left.plot(ends[:, 1], places, "o", ms=5, color=BLUE, zorder=3, gid="strict")
    list_rows(left, len(found), "Dice (%)", [*ends.ravel()])
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
    return figure_of(left)


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
    note = "Medians over draws; logarithmic axes. Operations are counted, not timed, and are the same on every device."
    about = f"{group.title} · strict protocol · {draws_in_words(rows.n)} a row"
    words = f"Dice against cost, {ratio} % of the labels", about, note
    pictures = small_multiples(words, len(shown), (3.8, 3.6), 2, gap=(0.2, 0.7), below=0.65, titles=0)
    for number, (axes, (label, values)) in enumerate(zip(pictures, shown.items(), strict=True)):
        low, high = (10**end for end in limits(np.log10(values), 0.16, 0.5))
        axes.set(xscale="log", xlim=(low, high), ylim=limits(rows["mean"], 0.13), xlabel=label)
        axes.set_xticks(ticks := _ticks(low, high), [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        found = rows.loc[values.index]
        for x, y, shade in zip(values, found["mean"], found.shade, strict=True):
            axes.plot(x, y, "o", ms=5, color=shade, mec="white", mew=0.5, zorder=3, gid="row")
        names = [short(group.display(row), 28, lacking) for row, lacking in found.part.items()]
        name_points(axes, list(zip(values, found["mean"], names, found.shade.replace(BLUE, GREY), strict=True)))
        axes.tick_params(labelleft=number % 2 == 0)
        axes.set_ylabel("" if number % 2 else "Dice (%)")
    return figure_of(pictures[0])


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 and their tenfolds; more of them where the axis is short."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(np.arange(1, 10, 0.2).round(1))):
        ticks = [float(step) * 10.0**decade for decade in range(-9, 16) for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            break
    return inside
