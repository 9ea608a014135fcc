"""Strict Dice against the share of labelled images."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.cells import Group
from benchmark.report.figures.labels import name_ends
from benchmark.report.figures.rows import Row, draws, rows_at
from benchmark.report.figures.style import (
    BLUE,
    COLOURS,
    INK,
    PALE,
    VERMILION,
    Sheet,
    joined,
    limits,
    outer_labels,
    short,
    small_multiples,
)

TOGETHER = 5  # rows that one pair of axes takes
MARKERS = ("o", "s", "^", "D", "v")


def ratio_curves(group: Group) -> Figure | None:
    """A line a row: all in one picture where they are few, else one picture a row with the others in grey.

    None where no row has scores at two ratios, or one of many (an upper bound, seen in the forest). A row with a
    single ratio is a point.
    """
    ratios = [ratio for ratio in group.ratios if rows_at(group, ratio)]
    lines: dict[str, list[Row]] = {}
    for ratio in ratios:
        for row in rows_at(group, ratio):
            lines.setdefault(row.label, []).append(row)
    several = [label for label in group.labels if len(lines.get(label, ())) > 1]
    if not several or len(several) == 1 < len(lines):
        return None
    every = [row for line in lines.values() for row in line]
    about = f"{group.title} · strict protocol · {draws(every)} a point"
    note = "Bars: 95 % intervals over patients (images where there are none)."
    if any(row.complete for row in every):
        note += " Hollow: only some of the wanted draws have a score."
    values = [value for row in every for value in (row.mean, *_bounds(row))]
    heading = "Dice against the share of labelled images"
    if len(lines) <= TOGETHER:
        widest = max(len(short(label)) for label in lines)
        sheet = Sheet(heading, about, note, [4.6], [3.1], left=0.65, right=0.35 + 0.075 * widest)
        axes = sheet.axes[0, 0]
        _frame(axes, ratios, values)
        ends = []
        left = [shade for shade in COLOURS if shade != VERMILION or group.reference not in lines]
        for number, label in enumerate(label for label in group.labels if label in lines):
            shade = VERMILION if label == group.reference else left.pop(0)
            shift = 0.3 * ((number + 0.5) / len(lines) - 0.5)
            _line(axes, ratios, lines[label], shade, MARKERS[number], shift)
            last = lines[label][-1]
            ends.append((ratios.index(last.ratio) + shift, last.mean, short(label), shade))
        name_ends(axes, ends)
        axes.set(xlabel="labelled training images", ylabel="Dice (%)")
        return sheet.figure
    single = len(lines) - len(several)
    if single:
        note += f" Grey: all other rows; small dots are {single} rows that have one ratio only."
    else:
        note += " Grey: all other rows."
    sheet, cells = small_multiples(
        heading, about, note, len(several), (1.65, 1.35), 5, left=0.6, gap=(0.2, 0.34), below=0.5
    )
    everything = joined(
        ([ratios.index(row.ratio) for row in line], [row.mean for row in line]) for line in lines.values()
    )
    alone = [line[0] for line in lines.values() if len(line) == 1]
    for axes, label in zip(cells, several, strict=True):
        _frame(axes, ratios, values)
        axes.plot(*everything, color=PALE, lw=0.8, zorder=1.5)
        for row in alone:
            axes.plot(ratios.index(row.ratio), row.mean, color=PALE, marker=".", ms=4,
                      mfc="white" if row.complete else PALE, zorder=1.5)  # fmt: skip
        _line(axes, ratios, lines[label], VERMILION if label == group.reference else BLUE, "o", 0.0)
        axes.set_title(short(label, 24), fontsize=8, loc="left", pad=3, color=INK)
    outer_labels(cells, "labelled images", "Dice (%)")
    return sheet.figure


def _frame(axes: Axes, ratios: list[int], values: list[float]) -> None:
    axes.set_xticks(range(len(ratios)), [f"{ratio} %" for ratio in ratios])
    axes.set_xlim(-0.3, len(ratios) - 0.7)
    axes.set_ylim(*limits(values))
    axes.grid(False, axis="x")


def _line(axes: Axes, ratios: list[int], line: list[Row], shade: str, marker: str, shift: float) -> None:
    places = [ratios.index(row.ratio) + shift for row in line]
    means = np.array([row.mean for row in line])
    low, high = (np.array([(_bounds(row) or (row.mean,) * 2)[end] for row in line]) for end in (0, 1))
    errors = np.maximum([means - low, high - means], 0)
    axes.errorbar(places, means, yerr=errors, color=shade, marker=marker, ms=4.5, lw=1.4, elinewidth=0.9, capsize=2)
    part = [place for place, row in enumerate(line) if row.complete]
    if part:
        axes.plot(np.array(places)[part], means[part], ls="", color=shade, marker=marker, ms=4.5, mfc="white", zorder=3)


def _bounds(row: Row) -> tuple[float, ...]:
    return (100 * row.interval.low, 100 * row.interval.high) if row.interval else ()
