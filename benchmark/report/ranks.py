"""Ranks of a table's rows and how sure they are, over resampled patients and draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from math import comb
from string import ascii_lowercase

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata, t

from benchmark.report import stats
from benchmark.report.results_frame import Group

EVERY_LABEL = 100  # percent: unless labels are sparse a bound, which sees labels that the methods do not
ALIKE = 1e-12  # scores that differ by less are equal but for rounding
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """The rows with scores at one ratio, best first: all of them on the same draws.

    scores: the strict Dice of each row as a fraction. resampled: the same, [resamples, rows], nan where it is
    undefined; None with fewer than two units. by_unit: what each unit adds to each score's error, [units, rows].
    by_draw: the scores of single draws, [rows, draws]. left_out: rows that lack some of these draws.
    """

    ratio: int
    scores: pd.Series
    draws: tuple[tuple[int, int], ...]
    expected: int
    resampled: Floats | None
    by_unit: Floats
    by_draw: Floats
    left_out: tuple[str, ...]

    @property
    def units(self) -> int:
        return len(self.by_unit)

    @property
    def rows(self) -> list[str]:
        return list(self.scores.index)

    @cached_property
    def ranks(self) -> Floats:
        """The rank of each row, 1 for the best; equal rows share the mean of their ranks."""
        return ranks_of(self.scores.to_numpy()[None])[0]

    @cached_property
    def _known(self) -> Floats:
        assert self.resampled is not None
        return self.resampled[np.isfinite(self.resampled).all(axis=1)]

    @cached_property
    def shares(self) -> Floats:
        """How often each row has each rank over the resamples, [rows, ranks]; k equal rows have a k-th of k ranks."""
        lowest, highest = (ranks_of(self._known, ties)[..., None] for ties in ("min", "max"))
        places = np.arange(1, len(self.rows) + 1)
        held: Floats = ((places >= lowest) & (places <= highest)) / (highest - lowest + 1)
        return held.mean(axis=0)

    @cached_property
    def ranges(self) -> Floats:
        """The 95 % interval of each row's rank, [rows, 2]."""
        return np.quantile(ranks_of(self._known), stats.tails(self.units), axis=0, method="inverted_cdf").T

    @cached_property
    def apart(self) -> NDArray[np.bool_]:
        """[i, j]: row i is better than row j, by t-tests of all pairs' differences with Holm's adjustment at 5 %.

        The variance of a difference is the sum of a part of the units and a part of the draws, its degrees of freedom
        are Satterthwaite's. The part of the draws is at least what all rows together show: two or three draws may agree
        by chance, and resampling them would make far too much of that.
        """
        units, (rows, draws) = len(self.by_unit), self.by_draw.shape
        one, other = np.triu_indices(rows, 1)
        differences = self.scores.to_numpy()[one] - self.scores.to_numpy()[other]  # the first is never the lower
        of_units = units / (units - 1) * ((self.by_unit[:, one] - self.by_unit[:, other]) ** 2).sum(axis=0)
        rest = self.by_draw - self.by_draw.mean(axis=1, keepdims=True) - self.by_draw.mean(axis=0) + self.by_draw.mean()
        free = max(draws - 1, 1)
        pooled = 2 * (rest**2).sum() / ((rows - 1) * free) / draws
        own = (self.by_draw[one] - self.by_draw[other]).var(axis=1) / free
        of_draws, free_draws = np.maximum(own, pooled), np.where(own > pooled, free, (rows - 1) * free)
        error = np.sqrt(of_units + of_draws).clip(ALIKE)
        freedom = error**4 / (of_units**2 / (units - 1) + of_draws**2 / free_draws).clip(ALIKE**4)
        adjusted = np.array(stats.holm(list(2 * t.sf(differences / error, freedom))))
        found = np.zeros((rows, rows), bool)
        found[one, other] = (adjusted < 1 - stats.LEVEL) & (differences > ALIKE)
        return found

    @cached_property
    def letters(self) -> list[str]:
        """Of each row: two rows have a letter in common if and only if they cannot be told apart.

        Piepho's (2004) insert and absorb; nothing where more groups than letters overlap.
        """
        groups = [frozenset(range(len(self.rows)))]
        for one, other in combinations(range(len(self.rows)), 2):
            if self.apart[one, other] or self.apart[other, one]:
                split = {group - {row} for group in groups for row in (one, other) if {one, other} <= group}
                split |= {group for group in groups if not {one, other} <= group}
                groups = [group for group in split if not any(group < larger for larger in split)]
                if len(groups) > len(ascii_lowercase):
                    return [""] * len(self.rows)
        named = list(zip(ascii_lowercase, sorted(groups, key=sorted), strict=False))
        return ["".join(letter for letter, group in named if row in group) for row in range(len(self.rows))]


def ranks_of(scores: Floats, ties: str = "average") -> Floats:
    """Ranks along the last axis, 1 for the greatest."""
    return np.asarray(rankdata(-scores.round(12), ties, axis=-1), float)


@lru_cache(maxsize=16)  # tables, CSV and figure ask for the same
def rankings(group: Group) -> tuple[Ranking, ...]:
    """One for each ratio with two rows to compare, but for bounds that see every label."""
    found = [_ranking(group, ratio) for ratio in group.ratios]
    return tuple(ranking for ranking in found if ranking)


def _ranking(group: Group, ratio: int) -> Ranking | None:
    """On the draws in which most pairs of rows meet, if not all rows have the same; of equal choices with more rows."""
    cells = {row: group.by_image(row, ratio).dropna(axis=1, how="all") for row, at in group.cells.index if at == ratio}
    ranked = group.sparse if ratio == EVERY_LABEL else cells
    cells = {row: images for row, images in cells.items() if images.shape[1] and row in ranked}
    of = {row: frozenset(images.columns) for row, images in cells.items()}
    choices = {of[one] & of[other] for one, other in combinations(of, 2)} - {frozenset()}
    if not choices:
        return None
    sizes = {draws: sum(draws <= mine for mine in of.values()) for draws in choices}
    chosen = min(choices, key=lambda draws: (-comb(sizes[draws], 2) * len(draws), -sizes[draws], sorted(draws)))
    draws, rows = sorted(chosen), [row for row in cells if chosen <= of[row]]
    images = pd.concat({row: cells[row][draws] for row in rows}, axis=1)
    scores = images.mean().groupby(level=0).mean()[rows].sort_index()
    scores = scores.iloc[np.argsort(-scores.round(12), kind="stable")]
    images = images[list(scores.index)]
    by_unit = images.groupby(level="unit")
    totals, sizes = by_unit.sum().to_numpy(float), by_unit.count().to_numpy(float)
    errors = (totals - images.mean().to_numpy() * sizes) / sizes.sum(axis=0)
    resampled = _resampled(totals, sizes, len(draws)) if len(totals) > 1 else None
    expected = int(group.cells.expected[rows[0], ratio])
    out = tuple(row for row in cells if row not in rows)
    of_rows = (len(totals), len(rows), len(draws))
    return Ranking(ratio, scores, tuple(draws), expected, resampled, errors.reshape(of_rows).mean(axis=2),
                   images.mean().to_numpy().reshape(of_rows[1:]), out)  # fmt: skip


def _resampled(totals: Floats, sizes: Floats, draws: int) -> Floats:
    """Mean over draws of the means over images, patients and draws resampled, [resamples, rows].

    totals, sizes: sum of the scores and number of images, [units, rows x draws].
    """
    times = stats.multiplicities(len(totals))
    totals, sizes = times @ totals, times @ sizes
    means = np.divide(totals, sizes, out=np.zeros_like(totals), where=sizes > 0).reshape(len(times), -1, draws)
    weights = draw_weights(draws)[:, None] * (sizes > 0).reshape(means.shape)
    together = weights.sum(axis=2)
    return np.divide((means * weights).sum(axis=2), together, out=np.full(together.shape, np.nan), where=together > 0)


def draw_weights(draws: int) -> Floats:
    """How often each draw is drawn in each resample: another resample's numbers than those of the patients."""
    return np.roll(stats.multiplicities(draws), 1, axis=0)


def as_frame(group: Group) -> pd.DataFrame:
    """A line for each row's rank and share of first places, with columns of the CSV."""
    lines = []
    for ranking in rankings(group):
        for place, row in enumerate(ranking.rows):
            line = {"row": row, "ratio": ranking.ratio, "protocol": "strict", "n": len(ranking.draws),
                    "dataset": group.dataset, "wanted": ranking.expected, "resampled_units": ranking.units}  # fmt: skip
            rank = {**line, "metric": "rank", "unit": "rank", "mean": ranking.ranks[place]}
            if ranking.resampled is None:
                lines.append(rank)
                continue
            low, high = ranking.ranges[place]
            lines.append(rank | {"low": low, "high": high})
            share = ranking.shares[place, 0]
            lines.append({**line, "metric": "first_place", "unit": "fraction", "mean": share})
    return pd.DataFrame(lines).astype({"wanted": "Int64", "resampled_units": "Int64"}) if lines else pd.DataFrame()
