"""Rows of a table against each other, by the same draws, images and patients; and the protocols against each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from benchmark.protocols import MEANING, PROTOCOLS, STAGES
from benchmark.report import stats
from benchmark.report.render import DASH, Table, number, p_value, part, signed
from benchmark.report.results_frame import CELL, Group

FEW_UNITS = 6  # below, no resample lies far enough out for 95 %


def compare(group: Group, first: str, second: str, ratio: int, metric: str = "dice") -> pd.DataFrame:
    """first - second under `strict`: images (unit, image) that both define x draws (fold, seed) that both have.

    Empty where they have none in common. Draws that only one of them has are left out: another list of labelled images
    is another difficulty. The difference of the rows is the mean over images of the means over draws.
    """
    return paired(*(group.by_image(row, ratio, metric) for row in (first, second)))


def paired(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The difference of two tables of images x draws, where both have a score."""
    found = one - other[one.columns.intersection(other.columns)]
    return found.dropna(how="all").dropna(axis=1, how="all")


def best(group: Group, ratio: int, protocol: str = "strict", metric: str = "dice") -> str | None:
    """The row to be set in bold: the highest mean, and above each other row beyond chance; None where there is none.

    Beyond chance: the 95 % interval of their paired difference is above 0, the difference has the same sign in every
    draw that both have, of which there are two or more, and none of its own draws is missing. No row is bold under the
    pooled protocols: they keep nothing of single images that an interval could be made of.
    """
    cells = group.cell_scores(protocol, metric)
    cells = cells[(cells.index.get_level_values("ratio") == ratio) & (cells.n > 0)]
    if protocol != "strict" or len(cells) < 2:
        return None
    order = cells.sort_values("mean", ascending=False, kind="stable")
    first, *others = (str(row) for row, _ in order.index)
    if group.by_image(first, ratio, metric).shape[1] < order.expected.iloc[0]:
        return None
    return first if all(_is_above(compare(group, first, other, ratio, metric)) for other in others) else None


def _is_above(difference: pd.DataFrame) -> bool:
    bounds = stats.interval(difference.mean(axis=1))
    return bool(bounds and bounds.low > 0 and len(difference.columns) > 1 and (difference.mean() > 0).all())


def difference_table(group: Group) -> Table | None:
    """Every row against the group's reference at every ratio; None without a reference or anything to compare."""
    if group.reference is None:
        return None
    every = {(row, ratio): compare(group, row, group.reference, ratio)
             for row, ratio in group.cells.index if row != group.reference}  # fmt: skip
    found = {place: difference for place, difference in every.items() if len(difference)}
    if not found:
        return None
    reference, over_draws = group.display(group.reference), [each.mean(axis=1) for each in found.values()]
    p_values = [stats.sign_flip(values) for values in over_draws]
    rows = []
    for place, values, p, adjusted in zip(found, over_draws, p_values, stats.holm(p_values), strict=True):
        bounds = stats.interval(values)
        interval = f"[{signed(100 * bounds.low)}, {signed(100 * bounds.high)}]" if bounds else DASH
        mean, above = signed(100 * values.mean()), signs(found[place])
        rows.append([*group.line(place), mean, interval, above, p_value(p), p_value(adjusted)])
    units = max(values.index.get_level_values("unit").nunique() for values in over_draws)
    least = 2.0 ** (1 - units)  # of all flips, the two that leave every sign alike
    exact = units <= stats.EXACT_UNITS
    flips = f"all of them, so that no p is below {p_value(least)}" if exact else f"{stats.FLIPS:,} times"
    caption = (
        f"Each row minus {reference}, in points: mean over images of paired differences, every image averaged over "
        f"the draws that both have. [95 % interval]: {resampled_units(group)}. draws: in how many of them the mean is "
        f"above that of {reference}. p: two-sided, signs of whole patients flipped (images, where no patient is known; "
        f"{flips}). Holm's family: {f'all {len(rows)} differences' if len(rows) > 1 else 'the one difference'} of this "
        "table."
    )
    notes = []
    if len(rows) > 1 and len(rows) * least > 1 - stats.LEVEL:
        notes.append(
            f"Whatever the scores, no adjusted p can be below {min(len(rows) * least, 1):.4f} with {len(rows)} "
            f"differences and {units} units to flip: this table can show no difference at the 5 % level."
        )
    if any(len(difference.columns) < 2 for difference in found.values()):
        notes.append("A difference of one draw says nothing of the spread over draws.")
    if without := [place for place in every if place not in found]:
        by_ratio = {at: [group.display(row) for row, other in without if other == at] for _, at in without}
        told = "; ".join(f"at {ratio} % {', '.join(names)}" for ratio, names in sorted(by_ratio.items()))
        notes.append(f"Not compared, having no finished draw in common with {reference}: {told}.")
    header = ["method", "labels", "difference", "95 % interval", "draws", "p", "p (Holm)"]
    return Table(f"Dice, strict, against {reference}", caption, header, rows, notes)


def signs(difference: pd.DataFrame) -> str:
    """In how many draws the first is above the second, e.g. `2/3 above`, and in how many they are equal."""
    values = difference.mean().round(12)  # equal but for rounding is equal
    above, equal, n = int((values > 0).sum()), int((values == 0).sum()), len(values)
    return f"{above}/{n} above" + (f", {equal}/{n} equal" if equal else "")


def resampled_units(group: Group) -> str:
    """What an interval resamples, in words; with a warning where it is too little."""
    units = group.images["unit"].unique()
    patients = sum(unit.startswith("patient ") for unit in units)
    images = f" and {len(units) - patients} images of unknown patients" if patients < len(units) else ""
    what = f"{patients} patient{'s' * (patients > 1)}{images}" if patients else "images (no patients are known)"
    few = " (few: it covers less than it says)" if len(units) < FEW_UNITS else ""
    return f"{what} resampled {stats.RESAMPLES:,} times{few}"


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
    lacking = group.stages.validation.isna()
    found = group.stages[~lacking | lacking.groupby([group.stages.row, group.stages.ratio]).transform("all")]
    means, sizes = (100 * found.groupby(CELL).mean()).map(lambda value: round(value, 2)), found.groupby(CELL).size()
    return [ProtocolGap(row, ratio, int(sizes[row, ratio]), int(expected), tuple(stops), validation)
            for (row, ratio), expected in group.cells.expected.items() if (row, ratio) in sizes.index
            for *stops, validation in [means.loc[(row, ratio)]]]  # fmt: skip


def gap_table(group: Group) -> Table:
    """What the same runs score under each protocol."""
    gaps, rows = protocol_gaps(group), []
    for gap in gaps:
        means = {"paper": gap.stops[0], "validation": gap.validation, "strict": gap.stops[-1]}
        rows.append([*_line(group, gap), *(number(means[name]) for name in PROTOCOLS), signed(-gap.whole)])
    caption = f"Dice in percent of the same runs, mean over {_draws(gaps)}. "
    caption += " ".join(f"{protocol}: {MEANING[protocol]}." for protocol in PROTOCOLS)
    header = ["method", "labels", *PROTOCOLS, "paper - strict"]
    return Table("The protocol gap", caption, header, rows, left_out(group, gaps, group.ratios))


def waterfall_table(group: Group) -> Table:
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
    header = ["method", "labels", *STAGES, "strict"]
    return Table("From paper to strict", caption, header, rows, left_out(group, gaps, group.ratios))


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
    told = stats.draws_in_words(found.n for found in gaps)
    return told + (" (after a name k/n: only k of n draws have all these scores)" if some else "")
