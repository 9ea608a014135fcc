"""Strict Dice against what it costs: operations, parameters, and on one named device time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from benchmark.report.cells import Group, Run
from benchmark.report.cost import device_of
from benchmark.report.figures.labels import name_points
from benchmark.report.figures.rows import Row, draws, rows_at
from benchmark.report.figures.style import BLUE, GREY, VERMILION, limits, short, small_multiples

AXES = {  # key of the record's cost -> what the axis says, and a unit
    "flops_per_step": ("GFLOPs a training step", 1e9),
    "parameters_trained": ("million trained parameters", 1e6),
    "seconds_per_step": ("seconds a step", 1.0),
}
TIMED = ("seconds_per_step",)


def cost(group: Group, ratio: int) -> Figure | None:
    """The rows at one label ratio against each cost that at least two rows know; None where there is none."""
    rows = rows_at(group, ratio)
    device = _device([run for row in rows for run in group.finished(row.label, ratio)])
    shown: list[tuple[str, list[tuple[Row, float]]]] = []
    for key, (label, unit) in AXES.items():
        timed = key in TIMED
        points = [
            (row, value / unit) for row in rows
            if (value := _median(group.finished(row.label, ratio), key, device if timed else None)) is not None
        ]  # fmt: skip
        if len(points) > 1:
            shown.append((f"{label}\n{short(device, 46)}" if timed else label, points))
    if not shown:
        return None
    note = "Medians over draws; logarithmic axes. Operations are counted, not timed, and are the same on every device."
    sheet, cells = small_multiples(
        f"Dice against cost, {ratio} % of the labels", f"{group.title} · strict protocol · {draws(rows)} a row", note,
        len(shown), (3.8, 3.6), 2, left=0.6, gap=(0.2, 0.7), below=0.65, titles=0,
    )  # fmt: skip
    for axes, (label, points) in zip(cells, shown, strict=True):
        _scatter(axes, label, points, group.reference, limits([row.mean for row in rows], 0.13))
        if axes.get_position().x0 > cells[0].get_position().x0:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("Dice (%)")
    return sheet.figure


def _scatter(
    axes: Axes, label: str, points: Sequence[tuple[Row, float]], reference: str | None, ends: tuple[float, float]
) -> None:
    values = [value for _, value in points]
    low, high = limits([math.log10(value) for value in values], 0.16, 0.5)
    axes.set_xscale("log")
    axes.set(xlim=(10**low, 10**high), ylim=ends, xlabel=label)
    axes.xaxis.set_major_locator(FixedLocator(ticks := _ticks(10**low, 10**high)))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    names = []
    for row, value in points:
        known = row.label == reference
        axes.plot(value, row.mean, "o", ms=5, color=VERMILION if known else BLUE, mec="white", mew=0.5, zorder=3)
        names.append((value, row.mean, row.name(28), VERMILION if known else GREY))
    name_points(axes, names)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 and their tenfolds; more of them where the axis is short."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), tuple(range(10, 100, 2))):
        scale = 10 if max(steps) >= 10 else 1
        ticks = [step * 10.0**decade / scale for decade in decades for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            return inside
    return inside


def _device(runs: Sequence[Run]) -> str:
    """The device that most runs were timed on; times of others are left out."""
    names = Counter(map(device_of, runs))
    return min(names, key=lambda name: (-names[name], name)) if names else ""


def _median(runs: Sequence[Run], key: str, device: str | None) -> float | None:
    values = [run.record["cost"].get(key) for run in runs if device is None or device_of(run) == device]
    known = [float(value) for value in values if value]
    return median(known) if known else None
