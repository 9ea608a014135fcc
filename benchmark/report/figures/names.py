"""Names beside what they name, instead of a legend of many colours; never two on top of each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from benchmark.report.figures.style import GREY, INK, SMALL

TALL = 1.25  # a line's height over the font size
REACHES = (5.0, 9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 64.0, 80.0, 100.0)  # points, from a point to its name
ALONG = np.linspace(0, 1, 6)  # of a line from a point to its name
ROUNDS = 8
Floats = NDArray[np.float64]


def spread(values: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Places in the order of `values`, at least `gap` apart and inside [low, high] where all fit, moved least.

    Neighbours that are too close are set around their common mean (pool adjacent violators).
    """
    order = np.argsort(values, kind="stable")
    blocks: list[list[float]] = []  # values that are set around their mean

    def start(block: Sequence[float]) -> float:
        length = gap * (len(block) - 1)
        return max(min(math.fsum(block) / len(block) - length / 2, high - length), low)

    for place in order:
        blocks.append([values[place]])
        while len(blocks) > 1 and start(blocks[-2]) + gap * len(blocks[-2]) > start(blocks[-1]) + 1e-12:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    result = np.empty(len(values))
    result[order] = [start(block) + gap * k for block in blocks for k in range(len(block))]
    return [float(place) for place in result]


def name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = SMALL) -> None:
    """Write the names of curves right of the axes; `ends`: (last x, last y, name, colour), limits already set."""
    low, high = axes.get_ylim()
    tall = axes.get_position().height * axes.figure.get_figheight() * 72  # type: ignore[union-attr]
    places = spread([y for _, y, _, _ in ends], size * TALL * (high - low) / tall, low, high)
    for (x, y, name, colour), place in zip(ends, places, strict=True):
        line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 1.5, "relpos": (0, 0.5)}
        axes.annotate(
            name, (x, y), xytext=(1.045, (place - low) / (high - low)), textcoords="axes fraction", fontsize=size,
            color=colour, va="center", annotation_clip=False, arrowprops=line,
        )  # fmt: skip


def name_points(axes: Axes, points: Sequence[tuple[float, float, str, str]], size: float = SMALL) -> None:
    """Write names near points (x, y, name, colour) where there is room; a thin line leads to a name further away.

    Every name in turn takes the place that covers least and is nearest, given all others; a few rounds. A place nearer
    to another point than to its own counts as covered in part. The limits must be set already.
    """
    if not points:
        return
    unit = axes.figure.dpi / 72  # pixels a point
    renderer = FigureCanvasAgg(axes.figure).get_renderer()  # type: ignore[arg-type]
    spots = axes.transData.transform([(x, y) for x, y, _, _ in points])
    texts = [
        axes.text(0, 0, name, size=size, color=INK if shade == GREY else shade, va="bottom", transform=None, zorder=4)
        for _, _, name, shade in points
    ]
    extents = [text.get_window_extent(renderer) for text in texts]
    options = [_around(spot, box.width + 2 * unit, box.height, unit) for spot, box in zip(spots, extents, strict=True)]
    room = np.array(axes.get_window_extent().extents)
    halo = np.array([-1, -1, 1, 1]) * [9, 6, 9, 6] * unit
    fixed = []  # what does not depend on the other names
    for place, (reach, boxes) in enumerate(options):
        others = np.tile(np.delete(spots, place, 0), 2)
        outside = ((boxes[:, :2] < room[:2]) | (boxes[:, 2:] > room[2:])).any(1)
        covered = 25 * _common(boxes, np.tile(spots, 2) + 0.4 * halo).sum(1) + 2 * _common(boxes, others + halo).sum(1)
        ends = np.clip(spots[place], boxes[:, :2], boxes[:, 2:]) - spots[place]
        lines = (spots[place] + ends[:, None] * ALONG[None, :, None])[None] - spots[:, None, None]
        crossed = np.delete((np.abs(lines) < 0.3 * halo[2:]).all(-1).sum(-1), place, 0).sum(0)
        fixed.append(1.5 * reach + 1e6 * outside + covered / unit**2 + 15 * crossed)
    taken = [int(np.argmin(loss)) for loss in fixed]
    for _ in range(ROUNDS):
        for place in np.argsort([-extent.width for extent in extents], kind="stable"):
            rest = np.array([options[k][1][taken[k]] for k in range(len(taken)) if k != place]).reshape(-1, 4)
            taken[place] = int(np.argmin(fixed[place] + 25 * _common(options[place][1], rest).sum(1) / unit**2))
    back = axes.transData.inverted()
    for place, (text, (_, _, _, colour)) in enumerate(zip(texts, points, strict=True)):
        box = options[place][1][taken[place]]
        end = np.clip(spots[place], box[:2], box[2:])
        if math.dist(end, spots[place]) > 5.5 * unit:
            axes.plot(*back.transform([spots[place], end]).T, color=colour, alpha=0.7, lw=0.6, zorder=1.5)
        text.set_transform(axes.transData)
        text.set_position(tuple(back.transform(box[:2])))


def _around(spot: Floats, wide: float, tall: float, unit: float) -> tuple[Floats, Floats]:
    """Places for a name around a point: distance [C], and box [C, 4] (left, bottom, right, top)."""
    reach, angle = (grid.ravel() for grid in np.meshgrid(REACHES, np.radians(np.arange(0, 360, 20)), indexing="ij"))
    across, up = np.cos(angle), np.sin(angle)
    left = spot[0] + reach * unit * across - wide * np.where(across < -0.1, 1, np.where(across > 0.1, 0, 0.5))
    bottom = spot[1] + reach * unit * up - tall / 2 + tall / 2 * up
    return reach, np.stack([left, bottom, left + wide, bottom + tall], 1)


def _common(one: Floats, two: Floats) -> Floats:
    """Area that boxes [C, 4] and [n, 4] share, [C, n]."""
    sides = np.minimum(one[:, None, 2:], two[None, :, 2:]) - np.maximum(one[:, None, :2], two[None, :, :2])
    return np.asarray(np.clip(sides, 0, None).prod(2))
