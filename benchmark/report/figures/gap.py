"""From the best that the test images can give to what was decided without them: the same runs, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.protocols import STAGES
from benchmark.report.cells import Group
from benchmark.report.figures.rows import draws, rows_at
from benchmark.report.figures.style import BLUE, GREY, INK, SMALL, VERMILION, Sheet, limits, short

LINE = 0.235  # inches a row
TITLES = ("official\noutput", "last\nstep", "threshold\n0.5", "mean over\nimages", "native\nsize", "together")


def gap(group: Group, ratio: int) -> Figure | None:
    """`paper` and `strict` of every row, and what each choice that is taken back changes; None without a waterfall."""
    ways: list[tuple[str, list[float]]] = []
    rows = rows_at(group, ratio)
    for row in rows:
        found = [run.waterfall for run in group.finished(row.label, ratio) if run.waterfall]
        if found:
            stops = [100 * math.fsum(way[place].dice for way in found) / len(found) for place in range(len(STAGES))]
            ways.append((row.label, stops))
    if not ways:
        return None
    ways.sort(key=lambda way: (way[1][-1] - way[1][0], way[0]))
    names = [short(label) for label, _ in ways]
    sheet = Sheet(
        f"From the paper's protocol to the strict one, {ratio} % of the labels",
        f"{group.title} · Dice in percent, mean over {draws(rows)} · the greatest fall first",
        "Left: hollow, best output, step and threshold chosen on the test images; filled, strict. Right: points gained "
        "(blue) or lost (orange) as one choice after the other is taken back, in this order.",
        [2.6] + [0.62] * len(TITLES), [LINE * len(ways) + 0.1], left=0.25 + 0.072 * max(map(len, names)), right=0.2,
        gap=(0.06, 0), below=0.5,
    )  # fmt: skip
    left, *others = sheet.axes[0]
    left.set_ylim(len(ways) - 0.5, -0.5)
    left.set_yticks(range(len(ways)), names)
    left.tick_params(axis="y", length=0)
    left.grid(False, axis="y")
    left.spines["left"].set_visible(False)
    for place, (_, stops) in enumerate(ways):
        left.plot([stops[0], stops[-1]], [place] * 2, color=GREY, lw=1.1, zorder=2)
        left.plot(stops[0], place, "o", ms=5, mfc="white", mec=VERMILION, mew=1.3, zorder=3)
        left.plot(stops[-1], place, "o", ms=5, color=BLUE, zorder=3)
    left.set_xlim(*limits([stops[end] for _, stops in ways for end in (0, -1)]))
    left.set_xlabel("Dice (%)")
    changes = [[*(after - before for before, after in pairwise(stops)), stops[-1] - stops[0]] for _, stops in ways]
    most = max(abs(change) for row in changes for change in row) or 1.0
    for number, (axes, name) in enumerate(zip(others, TITLES, strict=True)):
        _column(axes, [row[number] for row in changes], most, name)
    return sheet.figure


def _column(axes: Axes, changes: Sequence[float], most: float, name: str) -> None:
    """Numbers on a ground that is the darker the larger they are."""
    for place, value in enumerate(changes):
        shade = BLUE if value > 0 else VERMILION
        axes.barh(place, 1, height=0.88, color=shade, alpha=0.75 * math.sqrt(abs(value) / most), lw=0)
        shown = f"{value:+.2f}" if abs(round(value, 2)) > 0 else "0"
        axes.text(0.5, place, shown.replace("-", "\N{MINUS SIGN}"), ha="center", va="center", fontsize=SMALL, color=INK)
    axes.set(xlim=(0, 1), ylim=(len(changes) - 0.5, -0.5), xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(name, fontsize=SMALL)
