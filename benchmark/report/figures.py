"""Figures, drawn without a display and in colours that colour-blind readers can tell apart (Okabe and Ito 2008)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from benchmark.files import write_atomically
from benchmark.report import stats
from benchmark.report.cells import Group

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FOUND, INVENTED, MISSED = "#009E73", "#E69F00", "#0072B2"  # TP, FP, FN
OPACITY = {FOUND: 0.45, INVENTED: 0.8, MISSED: 0.8}
CELL = 2.3  # inches, width of one picture


@dataclass(frozen=True)
class Case:
    """One row of a panel: an image [h, w, 3] uint8, its truth [H, W], and a prediction [H, W] a column."""

    caption: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    predictions: Sequence[NDArray[np.bool_]]


def panel(columns: Sequence[str], cases: Sequence[Case], path: Path) -> Path:
    """Image, truth and one column a method: what was found, invented and missed, with the outline of the truth."""
    heights = [case.truth.shape[0] / case.truth.shape[1] for case in cases]
    size = (CELL * (len(columns) + 2), (CELL + 0.1) * sum(heights) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(len(cases), len(columns) + 2, squeeze=False, height_ratios=heights)
    for row, case in zip(grid, cases, strict=True):
        height, width = case.truth.shape
        for axes, title in zip(row, ("image", "truth", *columns), strict=True):
            shown = case.image if axes is row[0] else _faded(case.image)
            axes.imshow(shown, extent=(0, width, height, 0), interpolation="bilinear")
            axes.set(xticks=[], yticks=[])
            if axes in grid[0]:
                axes.set_title(_wrapped(title), fontsize=8)
        row[0].set_ylabel(_wrapped(case.caption), fontsize=7)
        row[1].imshow(_overlay(case.truth, case.truth), extent=(0, width, height, 0))
        for axes, prediction in zip(row[2:], case.predictions, strict=True):
            axes.imshow(_overlay(prediction, case.truth), extent=(0, width, height, 0))
            if case.truth.any() and not case.truth.all():
                axes.contour(case.truth, levels=[0.5], colors="black", linewidths=0.6)
    legend = {"found (TP)": FOUND, "invented (FP)": INVENTED, "missed (FN)": MISSED}
    handles = [Patch(color=colour, alpha=OPACITY[colour], label=name) for name, colour in legend.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return _save(figure, path)


def curve(group: Group, path: Path) -> Path | None:
    """Strict Dice against the share of labelled images, a line a method; None where no run has a score."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    drawn = 0
    styles = cycle(zip(COLOURS, MARKERS, strict=True))
    for number, label in enumerate(group.labels):
        points = [(ratio, images) for ratio in group.ratios if len((images := group.images(label, ratio)).ids)]
        if not points:
            continue
        drawn += 1
        means = [100 * float(images.values.mean()) for _, images in points]
        bounds = [stats.interval(images) for _, images in points]
        low = [mean - 100 * bound.low if bound else 0.0 for mean, bound in zip(means, bounds, strict=True)]
        high = [100 * bound.high - mean if bound else 0.0 for mean, bound in zip(means, bounds, strict=True)]
        shift = 0.5 * ((number + 0.5) / len(group.labels) - 0.5)  # side by side, so that intervals stay apart
        places = [group.ratios.index(ratio) + shift for ratio, _ in points]
        colour, marker = next(styles)
        axes.errorbar(
            places, means, yerr=np.maximum([low, high], 0), label=_wrapped(label, 60), color=colour, marker=marker,
            markersize=5, linewidth=1.3, elinewidth=0.9, capsize=2.5,
        )  # fmt: skip
    if not drawn:
        return None
    axes.set_xticks(range(len(group.ratios)), [f"{ratio} %" for ratio in group.ratios])
    axes.set_xlim(-0.5, len(group.ratios) - 0.5)
    axes.set(xlabel="labelled training images", ylabel="Dice (%), strict, 95 % interval")
    axes.set_title(f"{group.dataset}, split {group.split}, preset {group.preset}", fontsize=10)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=min(drawn, 3), fontsize=8, frameon=False)
    return _save(figure, path)


def _overlay(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """RGBA [H, W, 4] of true positives, false positives and false negatives; transparent elsewhere."""
    rgba = np.zeros((*truth.shape, 4))
    for colour, pixels in ((FOUND, prediction & truth), (INVENTED, prediction & ~truth), (MISSED, ~prediction & truth)):
        rgba[pixels] = (*to_rgb(colour), OPACITY[colour])
    return rgba


def _faded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light grey, three channels: the stain's own colours would hide those of an overlay."""
    grey = (255 + image.mean(-1, keepdims=True)) / 2
    return grey.repeat(3, -1).astype(np.uint8)


def _wrapped(text: str, width: int = 30, lines: int = 3) -> str:
    """Long names on several lines; a dollar sign starts no formula."""
    return "\n".join(textwrap.wrap(text, width)[:lines]).replace("$", r"\$")


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=130, metadata={"Software": None}))
    return path
