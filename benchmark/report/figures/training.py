"""What happened during training: test scores, losses, and shares that methods watch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmark.protocols import over_steps
from benchmark.report import stats
from benchmark.report.cells import Group, Run
from benchmark.report.figures.labels import name_ends
from benchmark.report.figures.rows import colour, named
from benchmark.report.figures.style import (
    COLOURS,
    DASHES,
    PALE,
    VERMILION,
    joined,
    limits,
    outer_labels,
    short,
    small_multiples,
)

SUM = 1e-3  # how near to 1 shares must add up: they are means of float32 values


class Curve(NamedTuple):
    """Values [draws, points] at training steps [points]; `other` draws are left out for having other steps."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    other: int = 0

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.values.mean(0)


def learning(group: Group, ratio: int) -> Figure | None:
    """Pooled test Dice at threshold 0.5 over training, one picture a row with the others in grey."""
    curves = {label: curve for label in group.labels if (curve := _pooled(group.finished(label, ratio)))}
    if not any(len(curve.steps) > 1 for curve in curves.values()):
        return None
    note = "Line: mean over draws; band: their range. Official output at working size; to look at, not to choose by. "
    note += "Grey: all rows."
    if group.reference in curves:
        note += f" Dashed: {group.reference}."
    shown = {label: [curve] for label, curve in curves.items()}
    note += other_steps(shown)
    sheet, cells = small_multiples(
        f"Test Dice while training, {ratio} % of the labels",
        f"{group.title} · pooled test pixels, threshold 0.5 · {draws(shown)} a row",
        note, len(curves), (1.65, 1.15), 5, left=0.6, gap=(0.2, 0.34),
    )  # fmt: skip
    extent = limits(np.concatenate([curve.values.ravel() for curve in curves.values()]))
    last = max(int(curve.steps[-1]) for curve in curves.values())
    everything = joined((curve.steps, curve.mean) for curve in curves.values())
    for axes, (label, curve) in zip(cells, curves.items(), strict=True):
        axes.plot(*everything, color=PALE, lw=0.7, zorder=1.5)
        if group.reference in curves and label != group.reference:
            base = curves[group.reference]
            axes.plot(base.steps, base.mean, color=VERMILION, lw=1, ls=(0, (4, 2)), zorder=2)
        shade = colour(group, label)
        axes.fill_between(curve.steps, curve.values.min(0), curve.values.max(0), color=shade, alpha=0.22, lw=0)
        axes.plot(curve.steps, curve.mean, color=shade, lw=1.6, marker="o" if len(curve.steps) < 9 else "", ms=2.8)
        axes.set(ylim=extent, xlim=(0, last * 1.03))
        axes.set_title(title(group, label, ratio, [curve], 24), fontsize=8, loc="left", pad=3)
    outer_labels(cells, "step", "Dice (%)")
    return sheet.figure


def losses(group: Group, ratio: int) -> Figure | None:
    """Every curve that training logged but the shares, one picture a row, each with its own scale."""
    found: dict[str, dict[str, Curve]] = {}
    for label in group.labels:
        curves = _history(group.finished(label, ratio))
        shared = {name for family in shares(curves) for name in family}
        kept = {name: curve for name, curve in curves.items() if name not in shared}
        if any(len(curve.steps) > 1 for curve in kept.values()):
            found[label] = kept
    if not found:
        return None
    shown = {label: list(curves.values()) for label, curves in found.items()}
    note = "Line: mean over draws; band: their range. Each picture has its own scale: compare shapes, not heights."
    sheet, cells = small_multiples(
        f"What training logged, {ratio} % of the labels",
        f"{group.title} · loss terms with their weights, and other values that methods watch · {draws(shown)} a row",
        note + other_steps(shown), len(found), (1.35, 1.35), 4, left=0.45, right=1.25, gap=(1.55, 0.38),
    )  # fmt: skip
    counted = Counter(name for curves in found.values() for name in curves)
    common = sorted((name for name in counted if counted[name] > 1), key=lambda name: (-counted[name], name))
    for axes, (label, curves) in zip(cells, found.items(), strict=True):
        lines(axes, curves, common)
        axes.set_title(title(group, label, ratio, shown[label], 30), fontsize=8, loc="left", pad=3)
    outer_labels(cells, "step", "")
    for axes in cells:
        axes.tick_params(labelleft=True)
    return sheet.figure


def watched(group: Group, ratio: int) -> Figure | None:
    """Shares that methods watch (weights of a gate, say): families of curves `a/b/...` that always add up to 1."""
    found: list[tuple[str, str, dict[str, Curve]]] = []
    for label in group.labels:
        curves = _history(group.finished(label, ratio))
        for family in shares(curves):
            prefix = family[0].rpartition("/")[0]
            found.append((label, prefix, {name.rpartition("/")[2]: curves[name] for name in family}))
    if not any(len(curve.steps) > 1 for _, _, curves in found for curve in curves.values()):
        return None
    shown: dict[str, list[Curve]] = defaultdict(list)
    for label, _, curves in found:
        shown[label] += curves.values()
    note = "Line: mean over draws; band: their range. Dotted: equal shares." + other_steps(shown)
    about = f"{group.title} · curves that add up to 1 · {draws(shown)} a row"
    sheet, cells = small_multiples(
        f"Shares over training, {ratio} % of the labels", about, note, len(found), (1.75, 1.5), 4,
        left=0.55, right=0.75, gap=(0.85, 0.5), titles=2,
    )  # fmt: skip
    names = list(dict.fromkeys(name for _, _, curves in found for name in curves))
    for axes, (label, prefix, curves) in zip(cells, found, strict=True):
        axes.axhline(1 / len(curves), color="#888888", lw=0.7, ls=(0, (1, 2)))
        lines(axes, curves, names, (0.0, 1.0))
        name = title(group, label, ratio, curves.values(), 26)
        axes.set_title(f"{name}\n{short(prefix, 26)}", fontsize=8, loc="left", pad=3, linespacing=1.15)
    outer_labels(cells, "step", "share")
    return sheet.figure


def shares(curves: dict[str, Curve]) -> list[list[str]]:
    """Families of two or more names that differ after their last slash only and add up to 1 in every draw and step."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in curves:
        if "/" in name:
            families[name.rpartition("/")[0]].append(name)
    result = []
    for names in families.values():
        values = [curves[name].values for name in names]
        if len(names) > 1 and len({of.shape for of in values}) == 1 and min(of.min() for of in values) >= 0:
            result += [names] if np.abs(np.sum(values, 0) - 1).max() < SUM else []
    return result


def lines(
    axes: Axes, curves: dict[str, Curve], common: Sequence[str], extent: tuple[float, float] | None = None
) -> None:
    """Curves with their names; those in `common` have the colour of their place there, others one that is left."""
    styles = [(shade, dash) for dash in DASHES for shade in COLOURS]
    given = {name: styles[place] for place, name in enumerate(common[: len(styles)]) if name in curves}
    left = cycle([found for found in styles if found not in given.values()] or styles)
    extent = extent or limits(np.concatenate([curve.values.ravel() for curve in curves.values()]), least=1e-6)
    last = max(int(curve.steps[-1]) for curve in curves.values())
    axes.set(ylim=extent, xlim=(0, last * 1.03))
    ends = []
    for name, curve in curves.items():
        shade, dash = given.get(name) or next(left)
        axes.fill_between(curve.steps, curve.values.min(0), curve.values.max(0), color=shade, alpha=0.15, lw=0)
        marker = "o" if len(curve.steps) == 1 else ""
        axes.plot(curve.steps, curve.mean, color=shade, ls=dash, lw=1.3, marker=marker, ms=3)
        ends.append((float(curve.steps[-1]), float(curve.mean[-1]), short(name, 24), shade))
    name_ends(axes, ends, 6.8)


def _pooled(runs: Iterable[Run]) -> Curve | None:
    """Test Dice in percent of every evaluation; None without pooled counts."""
    found = []
    for run in runs:
        if (values := over_steps(run.counts, "test")) is not None:
            found.append((run.counts["steps"], 100 * values))
    return over_draws(found)


def _history(runs: Iterable[Run]) -> dict[str, Curve]:
    """Logged curves by name, in the order of their names."""
    draws: dict[str, list[Any]] = defaultdict(list)
    for run in runs:
        history = run.record["history"]
        for name in sorted({key for line in history for key in line} - {"step"}):
            points = [(line["step"], line[name]) for line in history if line.get(name) is not None]
            draws[name].append((np.array([at for at, _ in points]), np.array([value for _, value in points], float)))
    found = {name: over_draws(of) for name, of in sorted(draws.items())}
    return {name: curve for name, curve in found.items() if curve and np.isfinite(curve.values).all()}


def over_draws(draws: Sequence[tuple[NDArray[Any], NDArray[np.float64]]]) -> Curve | None:
    """The draws whose steps are those that most have: only these can be averaged."""
    if not draws:
        return None
    counted = Counter(tuple(int(step) for step in steps) for steps, _ in draws)
    usual = min(counted, key=lambda steps: (-counted[steps], steps))
    values = [value for steps, value in draws if tuple(int(step) for step in steps) == usual]
    return Curve(np.array(usual), np.stack(values), len(draws) - len(values)) if usual else None


def title(group: Group, label: str, ratio: int, curves: Iterable[Curve], width: int) -> str:
    """A row's name, with (k/n) where one of its curves has only k of the n wanted draws."""
    n = min(len(curve.values) for curve in curves)
    return named(label, stats.part(n, group.draws(label, ratio)), width)


def draws(shown: Mapping[str, Iterable[Curve]]) -> str:
    """How many draws the curves of each row have, in words."""
    return stats.in_words(len(curve.values) for curves in shown.values() for curve in curves)


def other_steps(shown: Mapping[str, Iterable[Curve]]) -> str:
    """What was left out, as a sentence to be added to a note; nothing where nothing was."""
    counted = {label: max(curve.other for curve in curves) for label, curves in shown.items()}
    told = [f"{stats.in_words([n])} of {short(label)}" for label, n in counted.items() if n]
    return f" Left out, having other steps than most draws of its row: {', '.join(told)}." if told else ""

