"""What several figures ask of a group: its rows at a label ratio, best first, and how to speak of them."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.report import stats
from benchmark.report.cells import Group
from benchmark.report.figures.style import BLUE, VERMILION, short


class Row(NamedTuple):
    """A cell with scores: strict Dice of its draws in percent, their mean, and the interval over patients."""

    label: str
    ratio: int
    draws: tuple[float, ...]
    mean: float
    interval: stats.Interval | None
    complete: str  # "" or "(2/3)"

    def name(self, width: int = 34) -> str:
        """The row's name, at most about so long, and whether it is complete."""
        return named(self.label, self.complete, width)


def rows_at(group: Group, ratio: int) -> list[Row]:
    """The rows with a strict score at this ratio, best first, equals by name."""
    rows = []
    for label in group.labels:
        values = [run.scores["strict"]["dice"] for run in group.finished(label, ratio)]
        draws = tuple(100 * value for value in values if value is not None)
        if draws:
            missing = stats.part(len(draws), group.draws(label, ratio))
            interval = stats.interval(group.images(label, ratio))
            rows.append(Row(label, ratio, draws, stats.summary(draws).mean, interval, missing))
    return sorted(rows, key=lambda row: (-row.mean, row.label))


def busiest(group: Group) -> int | None:
    """The ratio at which most rows have a finished run, the smallest of equals; None where there is none."""
    counted = {ratio: sum(bool(group.finished(label, ratio)) for label in group.labels) for ratio in group.ratios}
    best = max(counted.values(), default=0)
    return min(ratio for ratio, number in counted.items() if number == best) if best else None


def bounds(group: Group, ratio: int) -> list[Row]:
    """Rows at greater ratios where they stand alone: upper bounds that the rows of `ratio` may be seen against."""
    others = [rows_at(group, other) for other in group.ratios if other > ratio]
    return [rows[0] for rows in others if len(rows) == 1]


def draws(rows: list[Row]) -> str:
    """How many draws the rows have, in words."""
    return stats.in_words(len(row.draws) for row in rows)


def named(label: str, complete: str, width: int = 34) -> str:
    """A name of one line with what is missing of its draws, e.g. `(2/3)`, which is never cut."""
    return f"{short(label, width - len(complete) - 1)} {complete}" if complete else short(label, width)


def colour(group: Group, label: str) -> str:
    """The row that others are compared with stands out."""
    return VERMILION if label == group.reference else BLUE
