"""Pictures of predictions: what was found, invented and missed, with the outline of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from benchmark.report.figures.style import DPI, GREY, SIZE, SMALL, short, wrapped
from benchmark.report.pictures import CONFUSED, FOUND, INVENTED, MISSED, OPACITY, Layout, Masks, faded, judge

ACROSS = 8  # pictures in a band
CELL, AIR, TITLE = 1.42, 0.05, 0.34  # inches: width of a picture, space between two, room for a title of two lines
LEAST = 5.0  # inches, of a panel


@dataclass(frozen=True)
class Case:
    """One image of a panel: its pixels [h, w, 3] uint8, truth [H, W], and a prediction [H, W] and score a column."""

    caption: str
    image: NDArray[np.uint8]
    truth: Masks
    predictions: Sequence[Masks]
    scores: Sequence[float] = field(default=())


def panel(heading: str, about: str, columns: Sequence[str], cases: Sequence[Case]) -> Figure:
    """Image, truth and one picture a method; more than eight pictures go into several bands, at most 12 inches wide."""
    number = len(columns) + 2
    across = min(ACROSS, number)
    bands = -(-number // across)
    across = -(-number // bands)  # bands of one length
    tall = [CELL * min(max(case.truth.shape[0] / case.truth.shape[1], 0.4), 2.5) for case in cases]
    width = max(0.1 + across * (CELL + AIR), LEAST)
    height = 0.6 + sum(0.34 + bands * (each + TITLE) for each in tall) + 0.3
    figure = Figure(figsize=(width, height), facecolor="white", dpi=DPI)
    left, top = 0.08 / width, 0.55
    line: dict[str, Any] = {"va": "top", "ha": "left"}
    figure.text(left, 1 - 0.08 / height, short(heading, int(width * 12)), size=SIZE + 1.5, weight="bold", **line)
    figure.text(left, 1 - 0.31 / height, short(about, int(width * 16)), size=SIZE - 0.5, color=GREY, **line)
    for case, each in zip(cases, tall, strict=True):
        top += 0.1
        figure.text(left, 1 - (top + 0.02) / height, short(case.caption, int(width * 13)), size=SIZE, **line)
        top += 0.24
        for place in range(number):
            band, column = divmod(place, across)
            start = 0.08 + column * (CELL + AIR)
            bottom = top + band * (each + TITLE) + TITLE + each
            axes = figure.add_axes((start / width, 1 - bottom / height, CELL / width, each / height))
            if place < 2:
                _plain(axes, case, ("image", "truth")[place])
            else:
                score = case.scores[place - 2] if case.scores else None
                _prediction(axes, case, columns[place - 2], case.predictions[place - 2], score)
        top += bands * (each + TITLE)
    legend = {"found (TP)": FOUND, "invented (FP)": INVENTED, "missed (FN)": MISSED}
    if any(case.truth.dtype != bool for case in cases):
        legend["another class"] = CONFUSED
    handles = [Patch(color=colour, alpha=OPACITY[colour], label=name) for name, colour in legend.items()]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=SIZE - 0.5, frameon=False,
                  bbox_to_anchor=(0, 0), borderaxespad=0.2)  # fmt: skip
    return figure


def _plain(axes: Axes, case: Case, title: str) -> None:
    _show(axes, case, case.image if title == "image" else faded(case.image), title)
    if title == "truth":
        axes.imshow(_overlay(case.truth, case.truth), extent=_extent(case), interpolation="nearest")
        _outline(axes, case)


def _prediction(axes: Axes, case: Case, title: str, found: Masks, score: float | None) -> None:
    name = wrapped(title, 24, 1 if score is not None else 2)
    _show(axes, case, faded(case.image), name if score is None else f"{name}\n{100 * score:.1f}")
    axes.imshow(_overlay(found, case.truth), extent=_extent(case), interpolation="nearest")
    _outline(axes, case)


def _outline(axes: Axes, case: Case) -> None:
    """Of the truth."""
    for kind in range(1, int(case.truth.max()) + 1):
        one = case.truth == kind
        if one.any() and not one.all():
            axes.contour(one, levels=[0.5], colors="black", linewidths=0.55, extent=_extent(case), origin="upper")


def _show(axes: Axes, case: Case, pixels: NDArray[np.uint8], title: str) -> None:
    axes.imshow(pixels, extent=_extent(case), interpolation="bilinear")
    axes.set(xticks=[], yticks=[], aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=SMALL, pad=2.5, linespacing=1.1)


def _extent(case: Case) -> tuple[float, float, float, float]:
    return 0, case.truth.shape[1], case.truth.shape[0], 0


def _overlay(prediction: Masks, truth: Masks) -> NDArray[np.float64]:
    """RGBA [H, W, 4] of what is right, invented, missed or of another class; transparent elsewhere."""
    rgba = np.zeros((*truth.shape, 4))
    for colour, pixels in judge(prediction, truth).items():
        rgba[pixels] = (*to_rgb(colour), OPACITY[colour])
    return rgba


def draw_layout(layout: Layout) -> Figure:
    """The panel of images that were chosen by rule."""
    cases = [
        Case(f"{shown.rule}: {shown.id}", shown.image, shown.truth, list(shown.masks.values()),
             list(shown.dice.values()))
        for shown in layout.images
    ]  # fmt: skip
    draw, seed = layout.draw
    about = f"{layout.ratio} % of the labels, draw {draw}, seed {seed} · strict Dice of each picture in percent"
    return panel(layout.title, about, layout.labels, cases)
