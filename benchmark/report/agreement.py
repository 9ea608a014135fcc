"""Kendall's tau: how alike the orders of rows are between protocols, draws and data sets, and after tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from benchmark.protocols import PROTOCOLS
from benchmark.report.ranks import Floats, Ranking, draw_weights, rankings
from benchmark.report.results_frame import DRAW, Group
from benchmark.report.stats import LEVEL

LEAST_ROWS = 3  # of two rows the order is the same or the other way round


class Agreement(NamedTuple):
    """Tau-b of two orders of the same n rows, with its 95 % interval (nan without; see `_interval`)."""

    ratio: int
    first: str
    second: str
    n: int
    tau: float
    low: float
    high: float
    data: str = ""  # the two data sets


def agreements(group: Group, groups: Sequence[Group] = ()) -> list[Agreement]:
    """Between protocols and between draws at every ratio, then with the other data of the same experiment, and with its
    tuned or default runs."""
    mine = rankings(group)
    found = [one for ranking in mine for one in (*_between_protocols(group, ranking), *_between_draws(ranking))]
    for other in groups:
        same_data = _place(other)[:2] == _place(group)[:2]
        if not (group.expected and other.expected) or same_data == (group.tuned == other.tuned):
            continue
        pair = (group.in_draws_of(other), other.in_draws_of(group)) if same_data else (group, other)
        names = " and ".join(" ".join(_place(each)) for each in pair)
        # in one order, whichever table asks: resampling is not symmetric
        first, second = ({each.ratio: each for each in rankings(one)} for one in sorted(pair, key=_place))
        for ratio in [ratio for ratio in first if ratio in second]:
            found += _between_groups(first[ratio], second[ratio], same_data, names)
    return found


def _between_groups(one: Ranking, two: Ranking, same_data: bool, names: str) -> list[Agreement]:
    """Of the rows that both have, under `strict`."""
    shared = [row for row in one.rows if row in two.rows]
    if len(shared) < LEAST_ROWS:
        return []
    at = [[each.rows.index(row) for row in shared] for each in (one, two)]
    tau = float(tau_b(one.scores[shared].to_numpy(), two.scores[shared].to_numpy()))
    low = high = math.nan
    if one.resampled is not None and two.resampled is not None:
        apart = 0 if same_data else 2  # other patients and draws are resampled independently
        whole = tau_b(one.resampled[:, at[0]], np.roll(two.resampled[:, at[1]], apart, axis=0))
        of_draws = _over_draws(one.by_draw[at[0]], two.by_draw[at[1]], apart)
        draws = min(len(one.draws), len(two.draws))
        low, high = _interval(tau, of_draws, draws, whole, min(one.units, two.units))
    return [Agreement(one.ratio, "strict", "strict", len(shared), tau, low, high, names)]


def _between_protocols(group: Group, ranking: Ranking) -> list[Agreement]:
    """On the draws of the ranking. Pooled protocols keep no patients, so the intervals are over draws alone."""
    table = group.scores[(group.scores.metric == "dice") & (group.scores["class"] == "")]
    table = table[table.ratio == ranking.ratio].pivot_table("value", "row", ["protocol", *DRAW])
    found = []
    for first, second in combinations(PROTOCOLS, 2):
        if not {first, second} <= set(table.columns.get_level_values("protocol")):
            continue
        scores = [table[name].reindex(columns=list(ranking.draws)).dropna() for name in (first, second)]
        rows = [row for row in ranking.rows if all(row in each.index for each in scores)]
        if len(rows) < LEAST_ROWS:
            continue
        one, two = (each.loc[rows].to_numpy() for each in scores)
        tau = float(tau_b(one.mean(axis=1), two.mean(axis=1)))
        low, high = _interval(tau, _over_draws(one, two), len(ranking.draws))
        found.append(Agreement(ranking.ratio, first, second, len(rows), tau, low, high))
    return found


def _between_draws(ranking: Ranking) -> list[Agreement]:
    """Of two single draws under `strict`, without an interval."""
    if len(ranking.rows) < LEAST_ROWS:
        return []
    folds = [fold for fold, _ in ranking.draws]
    of_draws = [
        (f"draw {fold}" + (f" with seed {seed}" if folds.count(fold) > 1 else ""), scores)
        for (fold, seed), scores in zip(ranking.draws, ranking.by_draw.T, strict=True)
    ]
    return [
        Agreement(ranking.ratio, first, second, len(one), float(tau_b(one, two)), math.nan, math.nan)
        for (first, one), (second, two) in combinations(of_draws, 2)
    ]


def _over_draws(one: Floats, two: Floats, apart: int = 0) -> Floats:
    """Tau of resampled draws. one, two: [rows, draws]; apart: how many resamples the second is shifted by."""
    means = [draw_weights(each.shape[1]) @ each.T / each.shape[1] for each in (one, two)]
    return tau_b(means[0], np.roll(means[1], apart, axis=0))


def _interval(
    tau: float, of_draws: Floats, draws: int, whole: Floats | None = None, units: int = 0
) -> tuple[float, float]:
    """The ends of a 95 % t-interval around tau, within [-1, 1]; nan where no resample tells anything of the spread.

    Not percentiles: resampling reorders rows that are close, so that nearly all resamples may have a tau below ours.
    of_draws: tau of resampled draws; whole: of resampled patients and draws, where there are patients. With one draw
    the interval is over patients alone.
    """
    by_draws = float(np.nanvar(of_draws)) if draws > 1 and not math.isnan(tau) else 0.0
    parts = [(by_draws * draws / (draws - 1), draws - 1)] if draws > 1 else []
    if whole is not None and units > 1 and not math.isnan(tau):
        parts.append((max(float(np.nanvar(whole)) - by_draws, 0.0) * units / (units - 1), units - 1))
    variance = sum(part for part, _ in parts)
    if not variance:
        return math.nan, math.nan
    freedom = variance**2 / sum(part**2 / free for part, free in parts)  # Satterthwaite's
    half = t.ppf((1 + LEVEL) / 2, freedom) * math.sqrt(variance)
    return float(max(tau - half, -1)), float(min(tau + half, 1))


def tau_b(one: Floats, other: Floats) -> Floats:
    """Kendall's tau-b along the last axis; nan where all are equal."""
    one, other = one.round(12), other.round(12)
    both, first, second = (np.zeros(np.broadcast_shapes(one.shape[:-1], other.shape[:-1])) for _ in range(3))
    for row in range(one.shape[-1] - 1):
        signs = [np.sign(scores[..., row + 1 :] - scores[..., [row]]) for scores in (one, other)]
        both, first, second = (total + (a * b).sum(axis=-1) for total, a, b in zip(
            (both, first, second), (signs[0], *signs), (signs[1], *signs), strict=True))  # fmt: skip
    scale = np.sqrt(first * second)
    return np.divide(both, scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def _place(group: Group) -> tuple[str, ...]:
    return group.dataset, group.split, *(["tuned"] if group.tuned else [])


def as_frame(group: Group, groups: Sequence[Group] = ()) -> pd.DataFrame:
    """A line for each tau, with columns of the CSV."""
    lines = []
    for each in agreements(group, groups):
        protocol = each.first if each.first == each.second else f"{each.first} and {each.second}"
        lines.append({"row": "", "ratio": each.ratio, "protocol": protocol, "metric": "kendall_tau", "unit": "tau",
                      "n": each.n, "dataset": each.data or group.dataset, "mean": each.tau, "low": each.low,
                      "high": each.high})  # fmt: skip
    return pd.DataFrame(lines)
