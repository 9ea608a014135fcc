"""Test images with what every row predicts on them, beside each other."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmark.report.figures.style import SIZE, SMALL, sheet, short
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

ACROSS = 8  # pictures of a panel beside each other
CELL = 1.42  # inches, the width of a picture


def panel(selection: Selection) -> Figure:
    """Image, truth and one picture a row: what was found, invented and missed, with the outline of the truth.

    More than eight pictures go into several bands, at most 12 inches wide.
    """
    bands = -(-(len(selection.names) + 2) // ACROSS)
    across = -(-(len(selection.names) + 2) // bands)  # bands of one length
    heights: list[float] = []
    for shown in selection.images:
        tall, wide = shown.truth.shape
        heights += [0.01] + [CELL * min(max(tall / wide, 0.4), 2.5)] * bands  # a line for the caption, the bands
    about = "{}, draw {}, seed {}".format(selection.labels, *selection.draw)
    figure, cells = sheet(
        (selection.title, f"{about} · strict Dice of each picture in percent", ""), [CELL] * across, heights,
        left=0.08, right=max(0.1, 4.9 - across * CELL), below=0.32, titles=1, gap=(0.05, 0.34),
    )  # fmt: skip
    for axes in cells:
        axes.set_axis_off()
    for shown in selection.images:
        cells[0].text(0, 0, short(f"{shown.rule}: {shown.id}", 15 * across), fontsize=SIZE)
        titles = [f"{short(name, 24)}\n{100 * shown.dice[row]:.1f}" for row, name in selection.names.items()]
        masks = [None, shown.truth, *shown.masks.values()]
        for axes, found, title in zip(cells[across:], masks, ["image", "truth", *titles], strict=False):
            _show(axes, shown, found, title)
        cells = cells[across * (1 + bands) :]
    legend = {"found (TP)": FOUND, "invented (FP)": INVENTED, "missed (FN)": MISSED}
    if any(shown.truth.dtype != bool for shown in selection.images):
        legend["another class"] = CONFUSED
    handles = [Patch(color=colour, alpha=OPACITY[colour], label=name) for name, colour in legend.items()]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=SIZE - 0.5, frameon=False,
                  bbox_to_anchor=(0, 0), borderaxespad=0.2)  # fmt: skip
    return figure


def _show(axes: Axes, shown: Shown, found: Masks | None, title: str) -> None:
    """The image alone (found: None), or in grey under what was found, and the outline of the truth."""
    truth = shown.truth
    extent = 0, truth.shape[1], truth.shape[0], 0
    axes.imshow(shown.image if found is None else faded(shown.image), extent=extent, interpolation="bilinear")
    axes.set_aspect("auto")
    axes.set_title(title, fontsize=SMALL, pad=2.5, linespacing=1.1)
    if found is None:
        return
    overlay = np.zeros((*truth.shape, 4))  # RGBA, transparent where nothing is
    for colour, pixels in pixel_kinds(found, truth).items():
        overlay[pixels] = (*to_rgb(colour), OPACITY[colour])
    axes.imshow(overlay, extent=extent, interpolation="nearest", aspect="auto")
    for one in (truth == kind for kind in range(1, int(truth.max()) + 1)):
        if one.any() and not one.all():
            axes.contour(one, levels=[0.5], colors="black", linewidths=0.55, extent=extent, origin="upper")
