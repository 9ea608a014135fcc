"""How far the protocols lie apart, and where the difference comes from."""

from __future__ import annotations

import math
from itertools import pairwise

from benchmark.protocols import PROTOCOLS, STAGES
from benchmark.report import stats
from benchmark.report.cells import Group, Run
from benchmark.report.table import NOTHING, Table
from benchmark.report.tables import MEANING, number

STEPS = ("official output", "last step", "threshold 0.5", "mean over images", "native size")


def gap_table(group: Group) -> Table:
    """What the same runs score under each protocol."""
    rows = []
    for label, ratio, runs in _cells(group):
        means = {}
        for protocol in PROTOCOLS:
            values = [run.scores[protocol]["dice"] for run in runs]
            means[protocol] = stats.summary(100 * value for value in values if value is not None).mean
        gap = round(means["paper"], 2) - round(means["strict"], 2)
        rows.append([label, f"{ratio} %", *(number(means[protocol]) for protocol in PROTOCOLS), _signed(gap)])
    caption = "Dice in percent of the same runs, mean over draws. "
    caption += " ".join(f"{protocol}: {MEANING[protocol]}." for protocol in PROTOCOLS)
    return Table("The protocol gap", caption, ["method", "labels", *PROTOCOLS, "paper - strict"], rows)


def waterfall_table(group: Group) -> Table | None:
    """The way from `paper` to `strict`: the printed steps add up to the printed ends, with no remainder."""
    rows = []
    for label, ratio, runs in _cells(group):
        ways = [run.waterfall for run in runs if run.waterfall]
        if ways:
            stops = [
                round(100 * math.fsum(way[place].dice for way in ways) / len(ways), 2) for place in range(len(STAGES))
            ]
            changes = [_signed(after - before) for before, after in pairwise(stops)]
            rows.append([label, f"{ratio} %", number(stops[0]), *changes, number(stops[-1])])
    if not rows:
        return None
    caption = (
        "Dice in percent, mean over draws, and points of change in between. From the best output, step and threshold "
        "on the pooled test pixels, one choice is taken back at a time, in this fixed order: the official output "
        "instead of the best, the last step, threshold 0.5, the mean over images instead of pooled pixels, native size "
        "and argmax."
    )
    return Table("From paper to strict", caption, ["method", "labels", "paper", *STEPS, "strict"], rows)


def _cells(group: Group) -> list[tuple[str, int, list[Run]]]:
    """The cells that have a score."""
    cells = [(label, ratio, group.finished(label, ratio)) for label in group.labels for ratio in group.ratios]
    return [cell for cell in cells if cell[2]]


def _signed(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: no minus zero
