"""Every row's strict Dice with its interval, best first, and beside it the paired difference to the reference."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report import stats
from benchmark.report.cells import Group
from benchmark.report.compare import compare
from benchmark.report.figures.rows import Row, bounds, colour, draws, rows_at
from benchmark.report.figures.style import BLUE, GREY, INK, SMALL, VERMILION, Sheet, limits, short

LINE = 0.235  # inches a row


def forest(group: Group, ratio: int) -> Figure | None:
    """The rows at one label ratio; None with fewer than two."""
    rows = rows_at(group, ratio)
    if len(rows) < 2:
        return None
    above = bounds(group, ratio)
    everything = [*above, *rows]
    names = [_name(row, ratio) for row in everything]
    reference = group.reference if any(row.label == group.reference for row in rows) else None
    note = "Small circles: draws. " if any(len(row.draws) > 1 for row in rows) else ""
    note += "Bar: 95 % interval over patients (images where there are none)."
    if reference:
        note += (
            f" Right: mean difference to {short(reference)} in the draws that both have, paired by image, and its own "
            "95 % interval; filled where that leaves out zero, not adjusted for the number of rows. Overlapping bars "
            "on the left say little about a difference, which is paired."
        )
    scored = {row.label for row in rows}
    wanted = [label for label in group.labels if group.cell(label, ratio) or group.lost(label, ratio)]
    without = [label for label in wanted if label not in scored]
    if without:
        note += f" Without a score here: {', '.join(map(short, without))}."
    sheet = Sheet(
        f"Dice with {ratio} % of the labels", f"{group.title} · strict protocol · {draws(rows)} a row", note,
        [3.3, 2.0] if reference else [4.4], [LINE * len(everything) + 0.1],
        left=0.25 + 0.072 * max(map(len, names)), right=0.15 if reference else 1.15, gap=(1.15, 0),
    )  # fmt: skip
    axes = sheet.axes[0, 0]
    _frame(axes, len(everything))
    for place, (row, name) in enumerate(zip(everything, names, strict=True)):
        _score(axes, place, row, name, colour(group, row.label) if row.ratio == ratio else GREY)
    values = [value for row in everything for value in (*row.draws, *_ends(row))]
    axes.set_xlim(*limits(values))
    axes.set_xlabel("Dice (%)")
    if reference:
        axes.axvline(next(row.mean for row in rows if row.label == reference), color=VERMILION, lw=0.7, ls=(0, (4, 3)))
        _differences(sheet.axes[0, 1], group, ratio, everything, reference)
    return sheet.figure


def _name(row: Row, ratio: int) -> str:
    return row.name() if row.ratio == ratio else f"{short(row.label, 26)}, {row.ratio} % {row.complete}".strip()


def _frame(axes: Axes, number: int) -> None:
    axes.set_ylim(number - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")


def _score(axes: Axes, place: int, row: Row, name: str, shade: str) -> None:
    axes.text(-0.015, place, name, transform=axes.get_yaxis_transform(), ha="right", va="center",
              color=VERMILION if shade == VERMILION else INK)  # fmt: skip
    if row.interval:
        axes.plot([100 * row.interval.low, 100 * row.interval.high], [place] * 2, color=shade, lw=2.2, alpha=0.45,
                  solid_capstyle="butt")  # fmt: skip
    axes.plot(row.draws, [place] * len(row.draws), "o", ms=3.6, mfc="white", mec=GREY, mew=0.7, zorder=3)
    axes.plot(row.mean, place, "D" if shade == GREY else "o", ms=5.2, color=shade, zorder=4)
    spread = stats.summary(row.draws)
    text = f"{spread.mean:.2f}" + (f" ± {spread.sd:.2f}" if spread.n > 1 else "")
    axes.text(1.015, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color=GREY)


def _ends(row: Row) -> tuple[float, ...]:
    return (100 * row.interval.low, 100 * row.interval.high) if row.interval else ()


def _differences(axes: Axes, group: Group, ratio: int, rows: list[Row], reference: str) -> None:
    """A line a row, of the draws that it shares with the reference; that, and bounds at other ratios, have none."""
    _frame(axes, len(rows))
    axes.axvline(0, color=VERMILION, lw=0.7, ls=(0, (4, 3)))
    seen = [0.0]
    for place, row in enumerate(rows):
        if row.label == reference or row.ratio != ratio:
            continue
        comparison = compare(group, row.label, reference, ratio)
        if comparison is None:
            continue
        middle, clear = 100 * float(comparison.images.values.mean()), False
        seen.append(middle)
        if found := stats.interval(comparison.images):
            low, high = 100 * found.low, 100 * found.high
            seen += [low, high]
            clear = low > 0 or high < 0
            axes.plot([low, high], [place] * 2, color=BLUE, lw=1.2)
        axes.plot(middle, place, "o", ms=4.6, mfc=BLUE if clear else "white", mec=BLUE, mew=1.0, zorder=3)
    axes.set_xlim(*limits(seen))
    axes.set_xlabel(f"points above {short(reference, 20)}")
