"""Pictures of predictions: what was found, invented and missed, with the outline of the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from benchmark.report.figures.style import DPI, GREY, SIZE, SMALL, short, wrapped
from benchmark.report.image_selection import (
    CONFUSED,
    FOUND,
    INVENTED,
    MISSED,
    OPACITY,
    Masks,
    Selection,
    Shown,
    faded,
    pixel_kinds,
)

ACROSS = 8  # pictures in a band
CELL, AIR, TITLE = 1.42, 0.05, 0.34  # inches: width of a picture, space between two, room for a title of two lines
LEAST = 5.0  # inches, of a panel


def panel(selection: Selection) -> Figure:
    """Image, truth and one picture a row; more than eight pictures go into several bands, at most 12 inches wide."""
    number = len(selection.names) + 2
    bands = -(-number // min(ACROSS, number))
    across = -(-number // bands)  # bands of one length
    tall = [CELL * min(max(shown.truth.shape[0] / shown.truth.shape[1], 0.4), 2.5) for shown in selection.images]
    width = max(0.1 + across * (CELL + AIR), LEAST)
    height = 0.6 + sum(0.34 + bands * (each + TITLE) for each in tall) + 0.3
    figure = Figure(figsize=(width, height), facecolor="white", dpi=DPI)
    left, top = 0.08 / width, 0.55
    fold, seed = selection.draw
    about = f"{selection.ratio} % of the labels, draw {fold}, seed {seed} · strict Dice of each picture in percent"
    line: dict[str, Any] = {"va": "top", "ha": "left"}
    title = short(selection.title, int(width * 12))
    figure.text(left, 1 - 0.08 / height, title, size=SIZE + 1.5, weight="bold", **line)
    figure.text(left, 1 - 0.31 / height, short(about, int(width * 16)), size=SIZE - 0.5, color=GREY, **line)
    for shown, each in zip(selection.images, tall, strict=True):
        caption = short(f"{shown.rule}: {shown.id}", int(width * 13))
        figure.text(left, 1 - (top + 0.12) / height, caption, size=SIZE, **line)
        top += 0.34
        titles = ["image", "truth", *(f"{wrapped(selection.names[row], 24, 1)}\n{100 * shown.dice[row]:.1f}"
                                      for row in selection.names)]  # fmt: skip
        for place, found in enumerate((None, shown.truth, *shown.masks.values())):
            band, column = divmod(place, across)
            bottom = top + band * (each + TITLE) + TITLE + each
            box = ((0.08 + column * (CELL + AIR)) / width, 1 - bottom / height, CELL / width, each / height)
            _show(figure.add_axes(box), shown, found, titles[place])
        top += bands * (each + TITLE)
    legend = {"found (TP)": FOUND, "invented (FP)": INVENTED, "missed (FN)": MISSED}
    if any(shown.truth.dtype != bool for shown in selection.images):
        legend["another class"] = CONFUSED
    handles = [Patch(color=colour, alpha=OPACITY[colour], label=name) for name, colour in legend.items()]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=SIZE - 0.5, frameon=False,
                  bbox_to_anchor=(0, 0), borderaxespad=0.2)  # fmt: skip
    return figure


def _show(axes: Axes, shown: Shown, found: Masks | None, title: str) -> None:
    """The image alone (found: None), or in grey under what was found, and the outline of the truth."""
    extent = 0, shown.truth.shape[1], shown.truth.shape[0], 0
    axes.imshow(shown.image if found is None else faded(shown.image), extent=extent, interpolation="bilinear")
    axes.set(xticks=[], yticks=[], aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=SMALL, pad=2.5, linespacing=1.1)
    if found is None:
        return
    axes.imshow(_overlay(found, shown.truth), extent=extent, interpolation="nearest")
    for kind in range(1, int(shown.truth.max()) + 1):
        one = shown.truth == kind
        if one.any() and not one.all():
            axes.contour(one, levels=[0.5], colors="black", linewidths=0.55, extent=extent, origin="upper")


def _overlay(found: Masks, truth: Masks) -> NDArray[np.float64]:
    """RGBA [H, W, 4] of what is right, invented, missed or of another class; transparent elsewhere."""
    rgba = np.zeros((*truth.shape, 4))
    for colour, pixels in pixel_kinds(found, truth).items():
        rgba[pixels] = (*to_rgb(colour), OPACITY[colour])
    return rgba
