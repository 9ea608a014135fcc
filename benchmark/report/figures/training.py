"""What happened during training: test scores, losses, shares that methods log, and how good pseudo-labels would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.protocols import over_steps
from benchmark.report.figures.names import name_ends
from benchmark.report.figures.scores import colour
from benchmark.report.figures.style import (
    COLOURS,
    DASHES,
    PALE,
    VERMILION,
    figure_of,
    limits,
    outer_labels,
    short,
    small_multiples,
    with_gaps,
)
from benchmark.report.render import part
from benchmark.report.results_frame import Group
from benchmark.report.stats import draws_in_words

CURVE = ["row", "family", "name"]
SUM = 1e-3  # how near to 1 shares must add up: they are means of float32 values
BAND = "Line: mean over draws; band: their range."
Pictures = Mapping[tuple[str, str], pd.DataFrame]  # by row and family of names, as `over_draws` gives them


def learning(group: Group, ratio: int) -> Figure | None:
    """Pooled test Dice at threshold 0.5 over training, one picture a row with the others in grey."""
    pictures = _pictures(group, over_draws(_pooled(group, ratio, "test")))
    base = pictures.get((str(group.reference), ""))
    note = f"{BAND} Official output at working size; to look at, not to choose by. Grey: all rows."
    note += "" if base is None else f" Dashed: {group.display(group.reference)}."
    words = f"Test Dice while training, {ratio} % of the labels", "pooled test pixels, threshold 0.5", note
    cells = _cells(group, ratio, pictures, words, (1.65, 1.15), 5, gap=(0.2, 0.34))
    everything = with_gaps([(curve.step, curve["mean"]) for curve in pictures.values()])
    extent = _extent(pictures)
    for axes, ((row, _), curve) in zip(cells, pictures.items(), strict=True):
        axes.plot(*everything, color=PALE, lw=0.7, zorder=1.5)
        if base is not None and row != group.reference:
            axes.plot(base.step, base["mean"], color=VERMILION, lw=1, ls=(0, (4, 2)), zorder=2)
        shade, marker = colour(group, row), "o" if len(curve) < 9 else ""
        axes.fill_between(curve.step, curve.low, curve.high, color=shade, alpha=0.22, lw=0)
        axes.plot(curve.step, curve["mean"], color=shade, lw=1.6, marker=marker, ms=2.8, gid="mean")
        axes.set(ylim=extent, xlim=(0, max(everything[0][:-1]) * 1.03))
    outer_labels(cells, "step", "Dice (%)")
    return figure_of(cells[0]) if cells else None


def losses(group: Group, ratio: int) -> Figure | None:
    """Every curve that training logged but the shares, one picture a row, each with its own scale."""
    curves = over_draws(_logged(group, ratio))
    pictures = _pictures(group, curves[curves.family == ""])
    words = (
        f"What training logged, {ratio} % of the labels",
        "loss terms with their weights, and other values that methods watch",
        f"{BAND} Each picture has its own scale: compare shapes, not heights.",
    )  # fmt: skip
    cells = _cells(group, ratio, pictures, words, (1.35, 1.35), 4, left=0.45, right=1.25, gap=(1.55, 0.38))
    counted = Counter(name for curve in pictures.values() for name in curve.name.unique())
    common = sorted((name for name in counted if counted[name] > 1), key=lambda name: (-counted[name], name))
    for axes, curve in zip(cells, pictures.values(), strict=True):
        _draw(axes, curve, common)
    outer_labels(cells, "step", "")
    for axes in cells:
        axes.tick_params(labelleft=True)
    return figure_of(cells[0]) if cells else None


def watched(group: Group, ratio: int) -> Figure | None:
    """Shares that methods watch (weights of a gate, say): families of curves `a/b/...` that always add up to 1."""
    curves = over_draws(_logged(group, ratio))
    curves = curves[curves.family != ""].assign(name=lambda found: [name.rpartition("/")[2] for name in found.name])
    pictures = _pictures(group, curves)
    words = f"Shares over training, {ratio} % of the labels", "curves that add up to 1", f"{BAND} Dotted: equal shares."
    cells = _cells(group, ratio, pictures, words, (1.75, 1.5), 4, left=0.55, right=0.75, gap=(0.85, 0.5), titles=2)
    for axes, curve in zip(cells, pictures.values(), strict=True):
        axes.axhline(1 / curve.name.nunique(), color="#888888", lw=0.7, ls=(0, (1, 2)))
        _draw(axes, curve, _names(pictures), (0.0, 1.0))
    outer_labels(cells, "step", "share")
    return figure_of(cells[0]) if cells else None


def unlabelled(group: Group, ratio: int) -> Figure | None:
    """Pooled Dice at threshold 0.5 of every output on the validation images over training, one picture a row.

    Where the split does not hold these images out, they are unlabelled training images, and only the evaluator knows
    their masks. A teacher's, second network's or expert's curve is that of the labels that it gives to others.
    """
    pictures = _pictures(group, over_draws(_pooled(group, ratio, "validation")))
    words = (
        f"Quality of pseudo-labels while training, {ratio} % of the labels",
        "validation images, pooled, threshold 0.5, every output of a method",
        f"{BAND} All labels that an output would give, the unsure ones included.",
    )
    cells = _cells(group, ratio, pictures, words, (1.65, 1.25), 4, right=0.75, gap=(0.85, 0.36))
    for axes, curve in zip(cells, pictures.values(), strict=True):
        _draw(axes, curve, _names(pictures), _extent(pictures))
    outer_labels(cells, "step", "Dice (%)")
    return figure_of(cells[0]) if cells else None


def over_draws(points: pd.DataFrame) -> pd.DataFrame:
    """A line a row, family, name and step: `mean`, `low` and `high` of its `n` draws. Only the draws whose steps are
    those that most have can be averaged; `others` is how many are left out."""
    if points.empty:
        return points.reindex(columns=[*CURVE, "step", "mean", "low", "high", "n", "others"])
    steps = points.groupby([*CURVE, "run_id"], sort=False).step.agg(tuple)
    usual = steps.groupby(CURVE).agg(lambda found: min(Counter(found).items(), key=lambda each: (-each[1], each[0]))[0])
    kept = steps.index[[usual[place[:-1]] == found for place, found in steps.items()]]
    points = points[pd.MultiIndex.from_frame(points[[*CURVE, "run_id"]]).isin(kept)]
    found = points.groupby([*CURVE, "step"], sort=False).value.agg(mean="mean", low="min", high="max", n="count")
    others = steps.groupby(CURVE).size() - kept.to_frame(index=False).groupby(CURVE).size()
    finite = np.isfinite(found["mean"]).groupby(CURVE).all().rename("finite")
    curves = found.reset_index().join(others.rename("others"), on=CURVE).join(finite, on=CURVE)
    return curves[curves.finite.astype(bool)]


def _pooled(group: Group, ratio: int, images: str) -> pd.DataFrame:
    """Dice in percent of every evaluation: on validation images of all outputs, on test images of the official one."""
    lines: list[dict[str, Any]] = []
    for run in group.done:
        outputs = [*map(str, run.counts.get("outputs", ()))] if images == "validation" else [""]
        for number, name in enumerate(outputs if run.spec["ratio"] == ratio else ()):
            values = over_steps(run.counts, images, number)
            if values is not None:
                place = {**run.place, "family": "", "name": name}
                pairs = zip(run.counts["steps"], 100 * values, strict=True)
                lines += [{**place, "step": int(step), "value": float(value)} for step, value in pairs]
    return pd.DataFrame(lines, columns=[*CURVE, "run_id", "step", "value"])


def _logged(group: Group, ratio: int) -> pd.DataFrame:
    """What training logged, by name. `family`: what stands before the last slash of a name, where the two or more names
    that share it add up to 1 in every run and step; else empty."""
    points = group.history[group.history.ratio == ratio].sort_values("name", kind="stable")
    points = points.assign(family=[name.rpartition("/")[0] for name in points.name])
    found = points.groupby(["row", "family", "run_id", "step"]).value.agg(["sum", "min", "count"])
    names = points.groupby(["row", "family"]).name.nunique()
    names = names.reindex(found.index.droplevel(["run_id", "step"])).to_numpy()
    whole = ((found["sum"] - 1).abs() < SUM) & (found["min"] >= 0) & (found["count"] == names) & (names > 1)
    shares = whole.groupby(["row", "family"]).all()
    kept = shares.reindex(pd.MultiIndex.from_frame(points[["row", "family"]])).to_numpy(bool)
    return points.assign(family=points.family.where(kept, ""))


def _pictures(group: Group, curves: pd.DataFrame) -> Pictures:
    """The curves of each picture, in order of the rows; none where no curve has two points."""
    if not curves.duplicated(CURVE).any():
        return {}
    found = dict(iter(curves.groupby(["row", "family"], sort=False)))
    return {place: found[place] for place in sorted(found, key=lambda place: (group.rows.index(place[0]), place[1]))}


def _cells(
    group: Group, ratio: int, pictures: Pictures, words: tuple[str, str, str], cell: tuple[float, float], columns: int,
    **options: Any,
) -> list[Axes]:
    """Axes for the pictures with their titles: (k/n) where a curve has only k of the n expected draws."""
    if not pictures:
        return []
    heading, about, note = words
    draws = {place: curves.groupby("name").n.max() for place, curves in pictures.items()}
    others = {row: int(curves.others.max()) for (row, _), curves in pictures.items()}
    told = [f"{draws_in_words([n])} of {short(group.display(row))}" for row, n in others.items() if n]
    note += f" Left out, having other steps than most draws of its row: {', '.join(told)}." if told else ""
    about = f"{group.title} · {about} · {draws_in_words(n for found in draws.values() for n in found)} a row"
    cells = small_multiples((heading, about, note), len(pictures), cell, columns, **options)
    for axes, (row, family) in zip(cells, pictures, strict=True):
        width = 30 if columns == 4 and not family else 24 + 2 * bool(family)
        complete = part(draws[row, family].min(), group.cells.expected[row, ratio])
        title = short(group.display(row), width, complete) + (f"\n{short(family, 26)}" if family else "")
        axes.set_title(title, fontsize=8, loc="left", pad=3, linespacing=1.15)
    return cells


def _names(pictures: Pictures) -> list[str]:
    return list(dict.fromkeys(name for curves in pictures.values() for name in curves.name))


def _extent(pictures: Pictures, least: float = 1.0) -> tuple[float, float]:
    return limits([end for curves in pictures.values() for end in (*curves.low, *curves.high)], least=least)


def _draw(
    axes: Axes, curves: pd.DataFrame, common: Sequence[str], extent: tuple[float, float] | None = None
) -> None:
    """Curves with their names; those in `common` have the colour of their place there, others one that is left."""
    styles = [(shade, dash) for dash in DASHES for shade in COLOURS]
    names = list(curves.name.unique())
    given = {name: styles[place] for place, name in enumerate(common[: len(styles)]) if name in names}
    left = cycle([found for found in styles if found not in given.values()] or styles)
    axes.set(ylim=extent or _extent({("", ""): curves}, 1e-6), xlim=(0, curves.step.max() * 1.03))
    ends = []
    for name, curve in curves.groupby("name", sort=False):
        shade, dash = given.get(name) or next(left)
        axes.fill_between(curve.step, curve.low, curve.high, color=shade, alpha=0.15, lw=0)
        marker = "o" if len(curve) == 1 else ""
        axes.plot(curve.step, curve["mean"], color=shade, ls=dash, lw=1.3, marker=marker, ms=3, gid="mean")
        ends.append((curve.step.iloc[-1], curve["mean"].iloc[-1], short(str(name), 24), shade))
    name_ends(axes, ends, 6.8)
