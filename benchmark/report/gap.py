"""How far the protocols lie apart, and where the difference comes from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

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
    rows = []
    for name, found in _named(group):
        means = {"paper": found.stops[0], "validation": found.validation, "strict": found.stops[-1]}
        scores = [number(means[protocol]) for protocol in PROTOCOLS]
        rows.append([name, f"{found.ratio} %", *scores, signed(-found.whole)])
    caption = f"Dice in percent of the same runs, mean over {_draws(group)}. "
    caption += " ".join(f"{protocol}: {MEANING[protocol]}." for protocol in PROTOCOLS)
    return Table("The protocol gap", caption, ["method", "labels", *PROTOCOLS, "paper - strict"], rows, _notes(group))


def waterfall_table(group: Group) -> Table | None:
    """From `paper` to `strict`: the printed steps add up to the printed ends, with no remainder."""
    rows = [
        [name, f"{found.ratio} %", number(found.stops[0]), *map(signed, found.changes), number(found.stops[-1])]
        for name, found in _named(group)
    ]
    caption = (
        f"Dice in percent, mean over {_draws(group)}, and points of change in between. From the best output, step and "
        "threshold on the pooled test pixels, one choice is taken back at a time, in this fixed order: the official "
        "output instead of the best, the last step, threshold 0.5, the mean over images instead of pooled pixels, "
        "native size and argmax."
    )
    header = ["method", "labels", "paper", *STEPS, "strict"]
    return Table("From paper to strict", caption, header, rows, _notes(group)) if rows else None


def left_out(group: Group, gaps: Sequence[ProtocolGap], ratios: Sequence[int]) -> str:
    """How many finished runs at these ratios are in none of the gaps, in a sentence; nothing where there is none."""
    finished = np.count_nonzero([run.spec["ratio"] in ratios for run in group.done])
    lacking = finished - sum(found.n for found in gaps)
    if not lacking:
        return ""
    runs = "1 finished run is" if lacking == 1 else f"{lacking} finished runs are"
    return f"{runs} left out: a score under one of the protocols is lacking."


def _named(group: Group) -> list[tuple[str, ProtocolGap]]:
    """With the row's name, and (k/n) where draws are missing."""
    found = protocol_gaps(group)
    return [(f"{group.display(gap.row)} {part(gap.n, gap.expected)}".strip(), gap) for gap in found]


def _draws(group: Group) -> str:
    gaps = protocol_gaps(group)
    some = any(found.n < found.expected for found in gaps)
    told = draws_in_words(found.n for found in gaps)
    return told + (" (after a name k/n: only k of n draws have all these scores)" if some else "")


def _notes(group: Group) -> list[str]:
    told = left_out(group, protocol_gaps(group), group.ratios)
    return [told] if told else []
