"""How far the protocols lie apart, and where the difference comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmark.protocols import PROTOCOLS, STAGES
from benchmark.report import stats
from benchmark.report.cells import Group
from benchmark.report.compare import signed
from benchmark.report.table import Table
from benchmark.report.tables import MEANING, number

STEPS = ("official output", "last step", "threshold 0.5", "mean over images", "native size")


class Way(NamedTuple):
    """A cell's way from `paper` to `strict`, all of the same n runs, mean Dice in percent as printed (two decimals).

    stops: one a stage. validation: nan without validation images. wanted: the draws that a whole cell has.
    """

    label: str
    ratio: int
    n: int
    wanted: int
    stops: tuple[float, ...]
    validation: float

    @property
    def name(self) -> str:
        """The row, with (k/n) where draws are missing."""
        return f"{self.label} {stats.part(self.n, self.wanted)}".strip()

    @property
    def changes(self) -> list[float]:
        """From each stop to the next; they add up to the difference of the ends, as printed."""
        return [round(after - before, 2) for before, after in pairwise(self.stops)]

    @property
    def whole(self) -> float:
        """strict - paper."""
        return round(self.stops[-1] - self.stops[0], 2)


def way(group: Group, label: str, ratio: int) -> Way | None:
    """Over the finished runs that have every score: one without all the stops, or without a score under `validation`
    where others of its cell have one, is left out. None where no run is left.
    """
    runs = [run for run in group.finished(label, ratio) if run.waterfall]
    runs = [run for run in runs if run.scores["validation"]["dice"] is not None] or runs
    if not runs:
        return None
    stops = [
        stats.summary(100 * run.waterfall[place].dice for run in runs if run.waterfall).mean
        for place in range(len(STAGES))
    ]
    chosen = [run.scores["validation"]["dice"] for run in runs]
    validation = stats.summary(100 * value for value in chosen if value is not None).mean
    rounded = tuple(round(stop, 2) for stop in stops)
    return Way(label, ratio, len(runs), group.draws(label, ratio), rounded, round(validation, 2))


def gap_table(group: Group) -> Table:
    """What the same runs score under each protocol."""
    ways = _ways(group)
    rows = []
    for found in ways:
        means = {"paper": found.stops[0], "validation": found.validation, "strict": found.stops[-1]}
        scores = [number(means[protocol]) for protocol in PROTOCOLS]
        rows.append([found.name, f"{found.ratio} %", *scores, signed(-found.whole)])
    caption = f"Dice in percent of the same runs, mean over {_draws(ways)}. "
    caption += " ".join(f"{protocol}: {MEANING[protocol]}." for protocol in PROTOCOLS)
    header = ["method", "labels", *PROTOCOLS, "paper - strict"]
    return Table("The protocol gap", caption, header, rows, _notes(group, ways))


def waterfall_table(group: Group) -> Table | None:
    """The way from `paper` to `strict`: the printed steps add up to the printed ends, with no remainder."""
    ways = _ways(group)
    if not ways:
        return None
    rows = [
        [found.name, f"{found.ratio} %", number(found.stops[0]), *map(signed, found.changes), number(found.stops[-1])]
        for found in ways
    ]
    caption = (
        f"Dice in percent, mean over {_draws(ways)}, and points of change in between. From the best output, step and "
        "threshold on the pooled test pixels, one choice is taken back at a time, in this fixed order: the official "
        "output instead of the best, the last step, threshold 0.5, the mean over images instead of pooled pixels, "
        "native size and argmax."
    )
    header = ["method", "labels", "paper", *STEPS, "strict"]
    return Table("From paper to strict", caption, header, rows, _notes(group, ways))


def left_out(group: Group, ways: Sequence[Way], ratios: Sequence[int]) -> str:
    """How many finished runs at these ratios are in none of the ways, in a sentence; nothing where there is none."""
    finished = sum(len(group.finished(label, ratio)) for label in group.labels for ratio in ratios)
    lacking = finished - sum(found.n for found in ways)
    if not lacking:
        return ""
    runs = "1 finished run is" if lacking == 1 else f"{lacking} finished runs are"
    return f"{runs} left out: a score under one of the protocols is lacking."


def _ways(group: Group) -> list[Way]:
    """Of the cells that have one."""
    found = [way(group, label, ratio) for label in group.labels for ratio in group.ratios]
    return [each for each in found if each]


def _draws(ways: Sequence[Way]) -> str:
    told = stats.in_words(found.n for found in ways)
    some = any(found.n < found.wanted for found in ways)
    return told + (" (after a name k/n: only k of n draws have all these scores)" if some else "")


def _notes(group: Group, ways: Sequence[Way]) -> list[str]:
    told = left_out(group, ways, group.ratios)
    return [told] if told else []
