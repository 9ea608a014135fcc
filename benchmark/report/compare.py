"""Rows of a table against each other: the same draws, the same images, whole patients."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from benchmark.report import stats
from benchmark.report.cells import Draw, Group, Run
from benchmark.report.table import NOTHING, Table
from benchmark.report.tables import number, resampled_units


class Comparison(NamedTuple):
    """first - second: every image's difference, averaged over the draws that both have, and each draw's mean."""

    images: stats.Images
    by_draw: dict[Draw, float]

    @property
    def signs(self) -> str:
        """In how many draws the first is above the second, e.g. `2/3 above`, and in how many they are equal."""
        values = [round(value, 12) for value in self.by_draw.values()]  # equal but for rounding is equal
        above, equal, n = sum(value > 0 for value in values), values.count(0), len(values)
        return f"{above}/{n} above" + (f", {equal}/{n} equal" if equal else "")


def compare(group: Group, first: str, second: str, ratio: int, metric: str = "dice") -> Comparison | None:
    """Two rows at one ratio under `strict`; None where they have no draw with an image that both define in common.

    Draws that only one of them has are left out: another list of labelled images is another difficulty.
    """
    pairs = paired(group, first, second, ratio, metric)
    if not pairs:
        return None
    draws = {draw: stats.differences(*pair) for draw, pair in pairs.items()}
    means = {draw: math.fsum(images.values) / len(images.ids) for draw, images in draws.items()}
    return Comparison(stats.average(draws.values()), means)


def paired(
    group: Group, first: str, second: str, ratio: int, metric: str = "dice"
) -> dict[Draw, tuple[stats.Images, stats.Images]]:
    """Two rows' scores of single images in every draw that both have: of the images that both define in that draw."""
    ours, theirs = (_by_draw(group.finished(label, ratio), metric) for label in (first, second))
    pairs = {draw: stats.common(ours[draw], theirs[draw]) for draw in sorted(ours.keys() & theirs.keys())}
    return {draw: pair for draw, pair in pairs.items() if pair[0].ids}


def _by_draw(runs: Iterable[Run], metric: str) -> dict[Draw, stats.Images]:
    """Each draw's scores of single images; of several records of one draw their mean."""
    draws: dict[Draw, list[Run]] = {}
    for run in runs:
        draws.setdefault(run.draw, []).append(run)
    return {draw: stats.average_over_draws(run.per_image(metric) for run in runs) for draw, runs in draws.items()}


def difference_table(group: Group, metric: str = "dice") -> Table | None:
    """Every row against the group's reference at every ratio; None without a reference or anything to compare."""
    reference = group.reference
    if reference is None:
        return None
    places, found = [], []
    without: dict[int, list[str]] = defaultdict(list)
    for label in group.labels:
        for ratio in group.ratios:
            if label == reference or not group.draws(label, ratio):
                continue
            comparison = compare(group, label, reference, ratio, metric)
            if comparison is None:
                without[ratio].append(label)
            else:
                places.append((label, ratio))
                found.append(comparison)
    if not found:
        return None
    p_values = [stats.sign_flip(comparison.images) for comparison in found]
    rows = [
        [label, f"{ratio} %", *_cells(comparison), _p(p), _p(adjusted)]
        for (label, ratio), comparison, p, adjusted in zip(places, found, p_values, stats.holm(p_values), strict=True)
    ]
    header = ["method", "labels", "difference", "95 % interval", "draws", "p", "p (Holm)"]
    title = f"{metric.capitalize()}, strict, against {reference}"
    return Table(title, _caption(group, reference, found), header, rows, _notes(found, without, reference))


def best(group: Group, ratio: int, protocol: str = "strict", metric: str = "dice") -> str | None:
    """The row to be set in bold: the highest mean, and above the runner-up beyond chance; None where there is none.

    Beyond chance: the 95 % interval of their paired difference is above 0, the difference has the same sign in every
    draw that both have, of which there are two or more, and none of its own draws is missing. No row is bold under the
    pooled protocols: they keep nothing of single images that an interval could be made of.
    """
    means = {}
    for label in group.labels:
        values = [run.scores["strict"][metric] for run in group.finished(label, ratio)]
        found = stats.summary(value for value in values if value is not None)
        if found.n:
            means[label] = found.mean
    if protocol != "strict" or len(means) < 2:
        return None
    first, second = sorted(means, key=lambda label: -means[label])[:2]
    comparison = compare(group, first, second, ratio, metric)
    if comparison is None or len(comparison.by_draw) < 2:
        return None
    whole = len({run.draw for run in group.finished(first, ratio)}) >= group.draws(first, ratio)
    bounds = stats.interval(comparison.images)
    agree = all(value > 0 for value in comparison.by_draw.values())
    return first if whole and agree and bounds and bounds.low > 0 else None


def _cells(comparison: Comparison) -> list[str]:
    """Difference, interval and signs."""
    values = comparison.images.values
    bounds = stats.interval(comparison.images)
    between = f"[{signed(100 * bounds.low)}, {signed(100 * bounds.high)}]" if bounds else NOTHING
    return [signed(100 * math.fsum(values) / len(values)), between, comparison.signs]


def _caption(group: Group, reference: str, found: list[Comparison]) -> str:
    least = 2.0 ** (1 - _units(found))
    exact = _units(found) <= stats.EXACT_UNITS
    flips = f"all of them, so that no p is below {_p(least)}" if exact else f"{stats.FLIPS:,} times"
    family = f"all {len(found)} differences" if len(found) > 1 else "the one difference"
    return (
        f"Each row minus {reference}, in points: mean over images of paired differences, every image averaged over "
        f"the draws that both have. [95 % interval]: {resampled_units(group)}. draws: in how many of them the mean is "
        f"above that of {reference}. p: two-sided, signs of whole patients flipped (images, where no patient is known; "
        f"{flips}). Holm's family: {family} of this table."
    )


def _notes(found: list[Comparison], without: dict[int, list[str]], reference: str) -> list[str]:
    notes = []
    least = len(found) * 2.0 ** (1 - _units(found))
    if least > 1 - stats.LEVEL and len(found) > 1:
        notes.append(
            f"Whatever the scores, no adjusted p can be below {min(least, 1):.4f} with {len(found)} differences and "
            f"{_units(found)} units to flip: this table can show no difference at the 5 % level."
        )
    if any(len(comparison.by_draw) < 2 for comparison in found):
        notes.append("A difference of one draw says nothing of the spread over draws.")
    if without:
        places = "; ".join(f"at {ratio} % {', '.join(labels)}" for ratio, labels in sorted(without.items()))
        notes.append(f"Not compared, having no finished draw in common with {reference}: {places}.")
    return notes


def _units(found: list[Comparison]) -> int:
    """The most units that any of the comparisons has."""
    return max(len(set(comparison.images.units)) for comparison in found)


def signed(value: float) -> str:
    """Two decimals with a sign, no minus zero; a dash for nan."""
    return number(value) if math.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"


def _p(value: float) -> str:
    """Four decimals; what they cannot show is said to be below them."""
    return NOTHING if math.isnan(value) else "<0.0001" if value < 0.00005 else f"{value:.4f}"
