"""The table of ranks, and what is said below it of draws, rows without a rank, and the order elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.protocols import PROTOCOLS
from benchmark.report.agreement import Agreement, agreements
from benchmark.report.compare import resampled_units
from benchmark.report.ranks import Ranking, rankings
from benchmark.report.render import DASH, Table, number
from benchmark.report.results_frame import Group


def rank_table(group: Group, groups: Sequence[Group] = ()) -> Table | None:
    """Each row's rank under `strict` and how sure it is; below, how alike orders are."""
    found = rankings(group)
    rows: list[Sequence[str]] = [
        [*group.line((row, ranking.ratio)), f"{ranking.ranks[place]:g}", *_sureness(ranking, place)]
        for ranking in found for place, row in enumerate(ranking.rows)
    ]  # fmt: skip
    if not rows:
        return None
    caption = (
        "Rank by strict Dice, 1 is best; equal rows share the mean of their ranks. A row at 100 % of "
        f"{'whole masks' if group.sparse else 'the labels'} has no rank. All rows of a ratio are ranked on the same "
        "draws. "
    )
    if any(ranking.resampled is not None for ranking in found):
        several = any(len(ranking.draws) > 1 for ranking in found)
        over = "draws too" if several else "and nothing else, since there is one draw"
        caption += (
            f"95 % range and first: {resampled_units(group)}, {over}; first is the share of resamples in which the row "
            "is the best. With few patients or draws they are less sure than they say. group: two rows cannot be told "
            "apart if they share a letter. better than, worse than: how many rows differ beyond chance, by "
            "t-tests with an error over patients and, with several draws, one over draws (Satterthwaite), at the 5 % "
            "level for all pairs of a ratio together (Holm)."
        )
    notes = [text for ranking in found for text in _ranked_on(group, ranking)]
    taus = agreements(group, groups)
    for ratio in dict.fromkeys(one.ratio for one in taus):
        told = "; ".join(_tau(one) for one in taus if one.ratio == ratio)
        notes.append(f"Kendall's tau at {ratio} %, 1 for the same order and 0 for an unrelated one: {told}.")
    if any(not math.isnan(one.low) for one in taus):
        notes.append(
            "The 95 % interval of tau is a t-interval around it, with the variance over resampled draws; of orders on "
            "other data or settings over resampled patients too. With few draws it is less sure than it says; with one "
            "draw it says nothing of other draws."
        )
    if any(math.isnan(one.low) and not math.isnan(one.tau) for one in taus if one.first in PROTOCOLS):
        notes.append("Between protocols tau has no interval where draws tell nothing of its spread, as with one draw.")
    header = ["method", "labels", "rank", "95 % range", "first", "group", "better than", "worse than"]
    return Table("Ranks, strict Dice", caption, header, rows, notes)


def _sureness(ranking: Ranking, place: int) -> list[str]:
    if ranking.resampled is None:
        return [DASH] * 5
    low, high = ranking.ranges[place]
    share = f"{100 * ranking.shares[place, 0]:.1f} %"
    better, worse = (str(int(apart[place].sum())) for apart in (ranking.apart, ranking.apart.T))
    return [f"[{low:g}, {high:g}]", share, ranking.letters[place] or DASH, better, worse]


def _ranked_on(group: Group, ranking: Ranking) -> list[str]:
    """Notes on what a ratio's ranks lack: draws, rows, patients to resample."""
    n, told, at = len(ranking.draws), [], f"At {ranking.ratio} %"
    if n < ranking.expected or ranking.left_out:
        out = ", ".join(group.display(row) for row in ranking.left_out)
        told.append(f"{at} ranked on {n} of {ranking.expected} draws, those that all these rows have"
                    + (f"; without a rank, lacking one of them: {out}." if out else "."))  # fmt: skip
    if ranking.resampled is None:
        told.append(f"{at} all test images are of one patient: nothing can be resampled, and no rank has a range.")
    elif n == 1:
        told.append(f"{at} there is one draw: the ranges and groups say nothing of other draws.")
    return told


def _tau(one: Agreement) -> str:
    what = one.data or f"{one.first} and {one.second}"
    interval = f" [{number(one.low)}, {number(one.high)}]" if not math.isnan(one.low) else ""
    return f"{what} {number(one.tau)}{interval} ({one.n} rows)"
