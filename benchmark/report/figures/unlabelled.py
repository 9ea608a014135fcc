"""How good pseudo-labels would be: what a method's outputs say of images whose masks it never sees."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from benchmark.protocols import over_steps
from benchmark.report.cells import Group, Run
from benchmark.report.figures.style import limits, outer_labels, small_multiples
from benchmark.report.figures.training import Curve, draws, lines, other_steps, over_draws, title


def unlabelled(group: Group, ratio: int) -> Figure | None:
    """Pooled Dice at threshold 0.5 of every output on the validation images over training, one picture a row.

    Where the split does not hold these images out, they are unlabelled training images, and only the evaluator knows
    their masks. A teacher's, second network's or expert's curve is that of the labels that it gives to others.
    """
    found = {label: curves for label in group.labels if (curves := outputs(group.finished(label, ratio)))}
    if not any(len(curve.steps) > 1 for curves in found.values() for curve in curves.values()):
        return None
    note = "Line: mean over draws; band: their range. All labels that an output would give, the unsure ones included."
    shown = {label: list(curves.values()) for label, curves in found.items()}
    sheet, cells = small_multiples(
        f"Quality of pseudo-labels while training, {ratio} % of the labels",
        f"{group.title} · validation images, pooled, threshold 0.5, every output of a method · {draws(shown)} a row",
        note + other_steps(shown), len(found), (1.65, 1.25), 4, left=0.6, right=0.75, gap=(0.85, 0.36),
    )  # fmt: skip
    names = list(dict.fromkeys(name for curves in found.values() for name in curves))
    every = [curve.values.ravel() for curves in found.values() for curve in curves.values()]
    extent = limits(np.concatenate(every))
    for axes, (label, curves) in zip(cells, found.items(), strict=True):
        lines(axes, curves, names, extent)
        axes.set_title(title(group, label, ratio, shown[label], 24), fontsize=8, loc="left", pad=3)
    outer_labels(cells, "step", "Dice (%)")
    return sheet.figure


def outputs(runs: list[Run]) -> dict[str, Curve]:
    """Curves by the name of the output; none where there are no validation images."""
    scored: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        for place, name in enumerate(run.counts.get("outputs", ())):
            if (values := over_steps(run.counts, "validation", place)) is not None:
                scored.setdefault(str(name), []).append((run.counts["steps"], 100 * values))
    return {name: curve for name, found in scored.items() if (curve := over_draws(found)) is not None}
