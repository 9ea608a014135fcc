"""Rows of a table against each other: the same draws, the same images, whole patients."""

from __future__ import annotations

import pandas as pd

from benchmark.report import stats
from benchmark.report.results_frame import Group
from benchmark.report.table import DASH, Table, p_value, signed

FEW_UNITS = 30  # below, a percentile bootstrap is known to cover clearly less than 95 %


def compare(group: Group, first: str, second: str, ratio: int, metric: str = "dice") -> pd.DataFrame:
    """first - second under `strict`: images (unit, image) that both define x draws (fold, seed) that both have.

    Empty where they have none in common. Draws that only one of them has are left out: another list of labelled images
    is another difficulty. The difference of the rows is the mean over images of the means over draws.
    """
    one, other = (group.by_image(row, ratio, metric) for row in (first, second))
    found = one - other[one.columns.intersection(other.columns)]
    return found.dropna(how="all").dropna(axis=1, how="all")


def best(group: Group, ratio: int, protocol: str = "strict", metric: str = "dice") -> str | None:
    """The row to be set in bold: the highest mean, and above the runner-up beyond chance; None where there is none.

    Beyond chance: the 95 % interval of their paired difference is above 0, the difference has the same sign in every
    draw that both have, of which there are two or more, and none of its own draws is missing. No row is bold under the
    pooled protocols: they keep nothing of single images that an interval could be made of.
    """
    cells = group.cell_scores(protocol, metric)
    cells = cells[(cells.index.get_level_values("ratio") == ratio) & (cells.n > 0)]
    if protocol != "strict" or len(cells) < 2:
        return None
    order = cells.sort_values("mean", ascending=False, kind="stable")
    first, second = (str(row) for row, _ in order.index[:2])
    difference = compare(group, first, second, ratio, metric)
    bounds = stats.interval(difference.mean(axis=1))
    if not bounds or bounds.low <= 0 or len(difference.columns) < 2 or (difference.mean() <= 0).any():
        return None
    whole = group.by_image(first, ratio, metric).shape[1] >= order.expected.iloc[0]
    return first if whole else None


def difference_table(group: Group, metric: str = "dice") -> Table | None:
    """Every row against the group's reference at every ratio; None without a reference or anything to compare."""
    if group.reference is None:
        return None
    places = [(row, ratio) for row, ratio in group.cells.index if row != group.reference]
    every = {place: compare(group, place[0], group.reference, place[1], metric) for place in places}
    found = {place: difference for place, difference in every.items() if len(difference)}
    if not found:
        return None
    p_values = [stats.sign_flip(difference.mean(axis=1)) for difference in found.values()]
    rows = [
        [group.display(row), f"{ratio} %", *_cells(difference), p_value(p), p_value(adjusted)]
        for ((row, ratio), difference), p, adjusted in zip(found.items(), p_values, stats.holm(p_values), strict=True)
    ]
    header = ["method", "labels", "difference", "95 % interval", "draws", "p", "p (Holm)"]
    reference, differences = group.display(group.reference), list(found.values())
    notes = _notes(differences)
    if without := [place for place in every if place not in found]:
        by_ratio = {at: [group.display(row) for row, other in without if other == at] for _, at in without}
        told = "; ".join(f"at {ratio} % {', '.join(names)}" for ratio, names in sorted(by_ratio.items()))
        notes.append(f"Not compared, having no finished draw in common with {reference}: {told}.")
    caption = _caption(reference, resampled_units(group), differences)
    return Table(f"{metric.capitalize()}, strict, against {reference}", caption, header, rows, notes)


def signs(difference: pd.DataFrame) -> str:
    """In how many draws the first is above the second, e.g. `2/3 above`, and in how many they are equal."""
    values = difference.mean().round(12)  # equal but for rounding is equal
    above, equal, n = int((values > 0).sum()), int((values == 0).sum()), len(values)
    return f"{above}/{n} above" + (f", {equal}/{n} equal" if equal else "")


def resampled_units(group: Group) -> str:
    """What an interval resamples, in words; with a warning where it is too little."""
    units = group.images["unit"].unique()
    patients, times = sum(unit.startswith("patient ") for unit in units), f"resampled {stats.RESAMPLES:,} times"
    if not patients:
        return f"images (no patients are known) {times}"
    warning = " (few: it covers less than it says)" if patients < FEW_UNITS else ""
    return f"{patients} patients {times}{warning}"


def _cells(difference: pd.DataFrame) -> list[str]:
    """Difference, interval and signs."""
    values = difference.mean(axis=1)
    bounds = stats.interval(values)
    between = f"[{signed(100 * bounds.low)}, {signed(100 * bounds.high)}]" if bounds else DASH
    return [signed(100 * values.mean()), between, signs(difference)]


def _caption(reference: str, units: str, found: list[pd.DataFrame]) -> str:
    exact = _units(found) <= stats.EXACT_UNITS
    least = p_value(2.0 ** (1 - _units(found)))
    flips = f"all of them, so that no p is below {least}" if exact else f"{stats.FLIPS:,} times"
    family = f"all {len(found)} differences" if len(found) > 1 else "the one difference"
    return (
        f"Each row minus {reference}, in points: mean over images of paired differences, every image averaged over "
        f"the draws that both have. [95 % interval]: {units}. draws: in how many of them the mean is "
        f"above that of {reference}. p: two-sided, signs of whole patients flipped (images, where no patient is known; "
        f"{flips}). Holm's family: {family} of this table."
    )


def _notes(found: list[pd.DataFrame]) -> list[str]:
    notes = []
    least = len(found) * 2.0 ** (1 - _units(found))
    if least > 1 - stats.LEVEL and len(found) > 1:
        notes.append(
            f"Whatever the scores, no adjusted p can be below {min(least, 1):.4f} with {len(found)} differences and "
            f"{_units(found)} units to flip: this table can show no difference at the 5 % level."
        )
    if any(len(difference.columns) < 2 for difference in found):
        notes.append("A difference of one draw says nothing of the spread over draws.")
    return notes


def _units(found: list[pd.DataFrame]) -> int:
    """The most units that any of the comparisons has."""
    return max(difference.index.get_level_values("unit").nunique() for difference in found)
