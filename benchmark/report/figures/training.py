"""What happened during training: test scores, losses, shares that methods log, and how good pseudo-labels would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.protocols import over_steps
from benchmark.report.figures.scores import colour
from benchmark.report.figures.style import (
    COLOURS,
    PALE,
    VERMILION,
    Words,
    limits,
    name_ends,
    outer_labels,
    short,
    small_multiples,
    with_gaps,
)
from benchmark.report.render import part
from benchmark.report.results_frame import Group
from benchmark.report.stats import draws_in_words

CURVE = ["row", "family", "name"]
STYLES = [(shade, dash) for dash in ("-", (0, (4, 1.5)), (0, (1, 1.2))) for shade in COLOURS]
SUM = 1e-3  # how near to 1 shares must add up: they are means of float32 values
SHARE, DICE = "share", "Dice (%)"
BAND = "Line: mean over draws; band: their range."
Pictures = Mapping[tuple[str, str], pd.DataFrame]  # the curves of each picture, by row and family of names


def learning(group: Group, ratio: int) -> Figure | None:
    """Pooled test Dice at threshold 0.5 over training, one picture a row with the others in grey."""
    pictures = _pictures(group, _pooled(group, ratio, "test"))
    if not pictures:
        return None
    base = pictures.get((str(group.reference), ""))
    note = f"{BAND} Official output at working size; to look at, not to choose by. Grey: all rows."
    note += "" if base is None else f" Dashed: {group.display(group.reference)}."
    words = f"Test Dice while training, {group.labels(ratio)}", "pooled test pixels, threshold 0.5", note
    figure, cells = _cells(group, ratio, pictures, words, cell=(1.65, 1.15), columns=5, left=0.6, gap=(0.2, 0.34))
    everything = with_gaps([(curve.step, curve["mean"]) for curve in pictures.values()])
    for axes, ((row, _), curve) in zip(cells, pictures.items(), strict=True):
        axes.plot(*everything, color=PALE, lw=0.7, zorder=1.5)
        if base is not None and row != group.reference:
            axes.plot(base.step, base["mean"], color=VERMILION, lw=1, ls=(0, (4, 2)), zorder=2)
        shade, marker = colour(group, row), "o" if len(curve) < 9 else ""
        axes.fill_between(curve.step, curve.low, curve.high, color=shade, alpha=0.22, lw=0)
        axes.plot(curve.step, curve["mean"], color=shade, lw=1.6, marker=marker, ms=2.8, gid="mean")
        axes.set(ylim=_extent(pictures.values()), xlim=(0, max(everything[0][:-1]) * 1.03))
    outer_labels(cells, "step", DICE)
    return figure


def losses(group: Group, ratio: int) -> Figure | None:
    """Every curve that training logged but the shares, one picture a row, each with its own scale."""
    points = _logged(group, ratio)
    words = (
        f"What training logged, {group.labels(ratio)}",
        "loss terms with their weights, and other values that methods watch",
        f"{BAND} Each picture has its own scale: compare shapes, not heights.",
    )  # fmt: skip
    points = points[points.family == ""]
    return _named_curves(group, ratio, points, words, "", cell=(1.35, 1.35), left=0.45, right=1.25, gap=(1.55, 0.38))


def watched(group: Group, ratio: int) -> Figure | None:
    """Shares that methods watch (weights of a gate, say): families of curves `a/b/...` that always add up to 1."""
    points = _logged(group, ratio)
    points = points[points.family != ""].assign(name=lambda found: found.name.str.replace(".*/", "", regex=True))
    words = f"Shares over training, {group.labels(ratio)}", "curves that add up to 1", f"{BAND} Dotted: equal shares."
    room = {"left": 0.55, "right": 0.75, "gap": (0.85, 0.5), "titles": 2}
    return _named_curves(group, ratio, points, words, SHARE, cell=(1.75, 1.5), **room)


def unlabelled(group: Group, ratio: int) -> Figure | None:
    """Pooled Dice at threshold 0.5 of every output on the validation images over training, one picture a row.

    Where the split does not hold these images out, they are unlabelled training images, and only the evaluator knows
    their masks. A teacher's, second network's or expert's curve is that of the labels that it gives to others.
    """
    words = (
        f"Quality of pseudo-labels while training, {group.labels(ratio)}",
        "validation images, pooled, threshold 0.5, every output of a method",
        f"{BAND} All labels that an output would give, the unsure ones included.",
    )
    points = _pooled(group, ratio, "validation")
    return _named_curves(group, ratio, points, words, DICE, cell=(1.65, 1.25), left=0.6, right=0.75, gap=(0.85, 0.36))


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
    points = points.assign(family=points.name.str.extract("(.*)/", expand=False).fillna(""))
    found = points.groupby(["row", "family", "run_id", "step"]).value.agg(["sum", "min", "count"])
    whole = ((found["sum"] - 1).abs() < SUM) & (found["min"] >= 0) & (found["count"] > 1)
    shares = whole.groupby(["row", "family"]).all().rename("shares")
    return points.assign(family=points.family.where(points.join(shares, on=["row", "family"]).shares, ""))


def _pictures(group: Group, points: pd.DataFrame) -> Pictures:
    """A line a row, family, name and step: `mean`, `low` and `high` of its `n` draws, of the steps that most draws of a
    curve have; in order of the rows. Nothing where no curve has two points."""
    found = points.groupby([*CURVE, "step"], sort=False).value.agg(mean="mean", low="min", high="max", n="count")
    curves = found[(found.n == found.groupby(CURVE).n.transform("max")) & found["mean"].notna()].reset_index()
    if not curves.duplicated(CURVE).any():
        return {}
    pictures = dict(iter(curves.groupby(["row", "family"], sort=False)))
    return {key: pictures[key] for key in sorted(pictures, key=lambda key: (group.rows.index(key[0]), key[1]))}


def _cells(group: Group, ratio: int, pictures: Pictures, words: Words, **options: Any) -> tuple[Figure, list[Axes]]:
    """Axes for the pictures with their titles: (k/n) where a curve has only k of the n expected draws."""
    heading, about, note = words
    draws = {place: curves.groupby("name").n.max() for place, curves in pictures.items()}
    about = f"{group.title} · {about} · {draws_in_words(n for found in draws.values() for n in found)} a row"
    figure, cells = small_multiples((heading, about, note), len(pictures), **options)
    for axes, (row, family) in zip(cells, pictures, strict=True):
        complete = part(draws[row, family].min(), group.cells.expected[row, ratio])
        title = short(group.display(row), 24 if options["columns"] == 5 else 30, complete)
        title += f"\n{short(family, 26)}" if family else ""
        axes.set_title(title, fontsize=8, loc="left", pad=3, linespacing=1.15)
    return figure, cells


def _named_curves(
    group: Group, ratio: int, points: pd.DataFrame, words: Words, label: str, **options: Any
) -> Figure | None:
    """Curves with their names; a name that several pictures have is of the same colour in all of them."""
    pictures = _pictures(group, points)
    if not pictures:
        return None
    figure, cells = _cells(group, ratio, pictures, words, columns=4, **options)
    counted = Counter(name for curves in pictures.values() for name in curves.name.unique())
    common = [name for name, count in counted.most_common() if count > 1]
    extents = {SHARE: (0.0, 1.0), DICE: _extent(pictures.values())}  # each picture its own scale else
    given = dict(zip(common, STYLES, strict=False))
    outer_labels(cells, "step", label)
    for axes, curves in zip(cells, pictures.values(), strict=True):
        if label == SHARE:
            axes.axhline(1 / curves.name.nunique(), color="#888888", lw=0.7, ls=(0, (1, 2)))
        if not label:
            axes.tick_params(labelleft=True)
        taken = [given.get(name) for name in curves.name.unique()]
        free = cycle([style for style in STYLES if style not in taken] or STYLES)
        axes.set(ylim=extents.get(label) or _extent([curves], 1e-6), xlim=(0, curves.step.max() * 1.03))
        ends = []
        for name, curve in curves.groupby("name", sort=False):
            shade, dash = given.get(name) or next(free)
            axes.fill_between(curve.step, curve.low, curve.high, color=shade, alpha=0.15, lw=0)
            marker = "o" if len(curve) == 1 else ""
            axes.plot(curve.step, curve["mean"], color=shade, ls=dash, lw=1.3, marker=marker, ms=3, gid="mean")
            ends.append((curve.step.iloc[-1], curve["mean"].iloc[-1], short(str(name), 24), shade))
        name_ends(axes, ends, 6.8)
    return figure


def _extent(curves: Iterable[pd.DataFrame], least: float = 1.0) -> tuple[float, float]:
    return limits(pd.concat(curves)[["low", "high"]], least=least)
