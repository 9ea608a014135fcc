"""How far the protocols lie apart, and where the difference comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmark.protocols import MEANING, PROTOCOLS
from benchmark.report.results_frame import CELL, Group
from benchmark.report.stats import draws_in_words
from benchmark.report.table import Table, number, part, signed

STEPS = ("official output", "last step", "threshold 0.5", "mean over images", "native size")


class ProtocolGap(NamedTuple):
    """A cell's Dice from `paper` to `strict`, all of the same n runs, in percent as printed (two decimals).

    stops: one a stage. validation: nan without validation images. expected: the draws that a whole cell has.
    """

    row: str
    ratio: int
    n: int
    expected: int
    stops: tuple[float, ...]
    validation: float

    @property
    def changes(self) -> list[float]:
        """From each stop to the next; they add up to the difference of the ends, as printed."""
        return [round(after - before, 2) for before, after in pairwise(self.stops)]

    @property
    def whole(self) -> float:
        """strict - paper."""
        return round(self.stops[-1] - self.stops[0], 2)


def protocol_gaps(group: Group) -> list[ProtocolGap]:
    """One for each cell with runs that have every score: one without all the stops, or without a score under
    `validation` where others of its cell have one, is left out."""
    found = group.stages
    lacking = found.validation.isna()
    found = found[~lacking | lacking.groupby([found.row, found.ratio]).transform("all")]
    means, sizes = 100 * found.groupby(CELL).mean(), found.groupby(CELL).size()
    return [
        ProtocolGap(place[0], place[1], int(sizes[place]), int(known.expected), tuple(stops), validation)
        for place, known in group.cells.iterrows() if place in sizes.index
        for *stops, validation in [[round(value, 2) for value in means.loc[place]]]
    ]  # fmt: skip


def gap_table(group: Group) -> Table:
    """What the same runs score under each protocol."""
    gaps, rows = protocol_gaps(group), []
    for found in gaps:
        means = {"paper": found.stops[0], "validation": found.validation, "strict": found.stops[-1]}
        rows.append([*_line(group, found), *(number(means[name]) for name in PROTOCOLS), signed(-found.whole)])
    caption = f"Dice in percent of the same runs, mean over {_draws(gaps)}. "
    caption += " ".join(f"{protocol}: {MEANING[protocol]}." for protocol in PROTOCOLS)
    header = ["method", "labels", *PROTOCOLS, "paper - strict"]
    return Table("The protocol gap", caption, header, rows, left_out(group, gaps, group.ratios))


def waterfall_table(group: Group) -> Table | None:
    """From `paper` to `strict`: the printed steps add up to the printed ends, with no remainder."""
    gaps = protocol_gaps(group)
    rows = [
        [*_line(group, gap), number(gap.stops[0]), *map(signed, gap.changes), number(gap.stops[-1])] for gap in gaps
    ]
    caption = (
        f"Dice in percent, mean over {_draws(gaps)}, and points of change in between. From the best output, step and "
        "threshold on the pooled test pixels, one choice is taken back at a time, in this fixed order: the official "
        "output instead of the best, the last step, threshold 0.5, the mean over images instead of pooled pixels, "
        "native size and argmax."
    )
    header = ["method", "labels", "paper", *STEPS, "strict"]
    return Table("From paper to strict", caption, header, rows, left_out(group, gaps, group.ratios)) if rows else None


def left_out(group: Group, gaps: Sequence[ProtocolGap], ratios: Sequence[int]) -> list[str]:
    """How many finished runs at these ratios are in none of the gaps, in a sentence; none where there is none."""
    lacking = sum(run.spec["ratio"] in ratios for run in group.done) - sum(found.n for found in gaps)
    runs = "1 finished run is" if lacking == 1 else f"{lacking} finished runs are"
    return [f"{runs} left out: a score under one of the protocols is lacking."] if lacking else []


def _line(group: Group, gap: ProtocolGap) -> list[str]:
    """The row's name, with (k/n) where draws are missing, and the ratio."""
    return [f"{group.display(gap.row)} {part(gap.n, gap.expected)}".strip(), f"{gap.ratio} %"]


def _draws(gaps: Sequence[ProtocolGap]) -> str:
    some = any(found.n < found.expected for found in gaps)
    told = draws_in_words(found.n for found in gaps)
    return told + (" (after a name k/n: only k of n draws have all these scores)" if some else "")
