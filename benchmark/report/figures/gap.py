"""From the best that the test images can give to what was decided without them: the same runs, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report import stats
from benchmark.report.cells import Group
from benchmark.report.compare import signed
from benchmark.report.figures.rows import named
from benchmark.report.figures.style import BLUE, GREY, INK, SMALL, VERMILION, Sheet, limits
from benchmark.report.gap import left_out, way

LINE = 0.235  # inches a row
TITLES = ("official\noutput", "last\nstep", "threshold\n0.5", "mean over\nimages", "native\nsize", "together")


def gap(group: Group, ratio: int) -> Figure | None:
    """`paper` and `strict` of every row, and what each choice that is taken back changes; None without a waterfall."""
    ways = [found for label in group.labels if (found := way(group, label, ratio))]
    if not ways:
        return None
    ways.sort(key=lambda found: (found.whole, found.label))
    names = [named(found.label, stats.part(found.n, found.wanted)) for found in ways]
    note = (
        "Left: hollow, best output, step and threshold chosen on the test images; filled, strict. Right: points gained "
        "(blue) or lost (orange) as one choice after the other is taken back, in this order. "
        f"{left_out(group, ways, [ratio])}"
    ).strip()
    about = f"{group.title} · Dice in percent, mean over {stats.in_words(found.n for found in ways)}"
    sheet = Sheet(
        f"From the paper's protocol to the strict one, {ratio} % of the labels", f"{about} · the greatest fall first",
        note, [2.6] + [0.62] * len(TITLES), [LINE * len(ways) + 0.1], left=0.25 + 0.072 * max(map(len, names)),
        right=0.2, gap=(0.06, 0), below=0.5,
    )  # fmt: skip
    left, *others = sheet.axes[0]
    left.set_ylim(len(ways) - 0.5, -0.5)
    left.set_yticks(range(len(ways)), names)
    left.tick_params(axis="y", length=0)
    left.grid(False, axis="y")
    left.spines["left"].set_visible(False)
    for place, stops in enumerate(found.stops for found in ways):
        left.plot([stops[0], stops[-1]], [place] * 2, color=GREY, lw=1.1, zorder=2)
        left.plot(stops[0], place, "o", ms=5, mfc="white", mec=VERMILION, mew=1.3, zorder=3)
        left.plot(stops[-1], place, "o", ms=5, color=BLUE, zorder=3)
    left.set_xlim(*limits([found.stops[end] for found in ways for end in (0, -1)]))
    left.set_xlabel("Dice (%)")
    changes = [[*found.changes, found.whole] for found in ways]
    most = max(abs(change) for row in changes for change in row) or 1.0
    for number, (axes, name) in enumerate(zip(others, TITLES, strict=True)):
        _column(axes, [row[number] for row in changes], most, name)
    return sheet.figure


def _column(axes: Axes, changes: Sequence[float], most: float, name: str) -> None:
    """Numbers on a ground that is the darker the larger they are."""
    for place, value in enumerate(changes):
        shade = BLUE if value > 0 else VERMILION
        axes.barh(place, 1, height=0.88, color=shade, alpha=0.75 * math.sqrt(abs(value) / most), lw=0)
        shown = signed(value) if value else "0"
        axes.text(0.5, place, shown.replace("-", "\N{MINUS SIGN}"), ha="center", va="center", fontsize=SMALL, color=INK)
    axes.set(xlim=(0, 1), ylim=(len(changes) - 0.5, -0.5), xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(name, fontsize=SMALL)
