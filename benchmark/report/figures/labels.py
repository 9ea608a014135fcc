"""Names beside what they name, instead of a legend of many colours; never two on top of each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from benchmark.report.figures.style import GREY, INK, SMALL

TALL = 1.25  # a line's height over the font size
REACHES = (5.0, 9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 64.0, 80.0, 100.0)  # points, from a point to its name
ALONG = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of a line from a point to its name
ROUNDS = 8
Floats = NDArray[np.float64]
Place = tuple[Floats, Floats, Floats]  # see _around


def spread(values: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> list[float]:
    """Places in the order of `values`, at least `gap` apart and inside [low, high] where all fit, moved least.

    Neighbours that are too close are set around their common mean (pool adjacent violators).
    """
    order = sorted(range(len(values)), key=lambda place: values[place])
    blocks: list[tuple[float, int]] = []  # (middle, how many)
    for place in order:
        blocks.append((values[place], 1))
        while len(blocks) > 1 and _end(blocks[-2], gap) > _start(blocks[-1], gap) - gap + 1e-12:
            (one, n), (two, m) = blocks.pop(-2), blocks.pop()
            blocks.append(((one * n + two * m) / (n + m), n + m))
        middle, n = blocks[-1]
        half = gap * (n - 1) / 2
        blocks[-1] = max(min(middle, high - half), low + half), n
    while len(blocks) > 1:  # what was kept inside may have moved over a neighbour
        over = [k for k in range(len(blocks) - 1) if _end(blocks[k], gap) > _start(blocks[k + 1], gap) - gap + 1e-9]
        if not over:
            break
        (one, n), (two, m) = blocks[over[0]], blocks.pop(over[0] + 1)
        half = gap * (n + m - 1) / 2
        blocks[over[0]] = max(min((one * n + two * m) / (n + m), high - half), low + half), n + m
    places = [middle + gap * (k - (n - 1) / 2) for middle, n in blocks for k in range(n)]
    result = [0.0] * len(values)
    for place, where in zip(order, places, strict=True):
        result[place] = where
    return result


def _start(block: tuple[float, int], gap: float) -> float:
    return block[0] - gap * (block[1] - 1) / 2


def _end(block: tuple[float, int], gap: float) -> float:
    return block[0] + gap * (block[1] - 1) / 2


def name_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = SMALL) -> None:
    """Write the names of curves right of the axes; `ends`: (last x, last y, name, colour), limits already set."""
    low, high = axes.get_ylim()
    tall = axes.get_position().height * axes.figure.get_figheight() * 72  # type: ignore[union-attr]
    places = spread([y for _, y, _, _ in ends], size * TALL * (high - low) / tall, low, high)
    for (x, y, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name, (x, y), xytext=(1.045, (place - low) / (high - low)), textcoords="axes fraction", fontsize=size,
            color=colour, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 1.5,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def name_points(axes: Axes, points: Sequence[tuple[float, float, str, str]], size: float = SMALL) -> None:
    """Write names near points (x, y, name, colour) where there is room; a thin line leads to a name further away.

    Every name in turn takes the place that covers and crosses least and is nearest, given all others; a few rounds. A
    place nearer to another point than to its own counts as covered in part. The limits must be set already.
    """
    if not points:
        return
    figure = axes.figure
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[arg-type]
    room, unit = axes.get_window_extent(), figure.dpi / 72  # pixels a point
    spots = axes.transData.transform([(x, y) for x, y, _, _ in points])
    texts = [
        axes.text(0, 0, name, size=size, color=INK if shade == GREY else shade, va="bottom", transform=None, zorder=4)
        for _, _, name, shade in points
    ]
    extents = [text.get_window_extent(renderer) for text in texts]
    options = [_around(spot, box.width + 2 * unit, box.height, unit) for spot, box in zip(spots, extents, strict=True)]
    inside = np.array([room.x0, room.y0, room.x1, room.y1])
    fixed = []  # what does not depend on the other names
    halo = np.array([-1, -1, 1, 1]) * [9, 6, 9, 6] * unit
    for place, (reach, boxes, lines) in enumerate(options):
        others = np.tile(np.delete(spots, place, 0), 2)
        loss = 1.5 * reach + 1e6 * ((boxes[:, :2] < inside[:2]) | (boxes[:, 2:] > inside[2:])).any(1)
        loss += 25 * _common(boxes, np.tile(spots, 2) + 0.4 * halo).sum(1) / unit**2
        loss += 2 * _common(boxes, others + halo).sum(1) / unit**2
        fixed.append(loss + 15 * _within(lines, others + 0.3 * halo).sum((0, 2)))
    wide = [extent.width for extent in extents]
    orders = [np.argsort(key, kind="stable") for key in (np.negative(wide), spots[:, 0], spots[:, 1])]
    taken = min((_settled(options, fixed, order, unit) for order in orders), key=lambda found: found[0])[1]
    back = axes.transData.inverted()
    for place, (text, (_, _, _, colour)) in enumerate(zip(texts, points, strict=True)):
        box, line = options[place][1][taken[place]], options[place][2][taken[place]]
        if math.hypot(*(line[-1] - line[0])) > 5.5 * unit:
            axes.plot(*back.transform(line[[0, -1]]).T, color=colour, alpha=0.7, lw=0.6, zorder=1.5)
        text.set_transform(axes.transData)
        text.set_position(tuple(back.transform(box[:2])))


def _settled(
    options: Sequence[Place], fixed: Sequence[Floats], order: NDArray[Any], unit: float
) -> tuple[float, NDArray[np.int64]]:
    """The places that the names come to rest at when they move in this order, and what they cost together."""
    taken = np.array([int(np.argmin(loss)) for loss in fixed])
    costs = np.zeros(len(options))
    for _ in range(ROUNDS):
        before = taken.copy()
        for place in order:
            _, boxes, lines = options[place]
            rest = [other for other in range(len(options)) if other != place]
            theirs = np.array([options[other][1][taken[other]] for other in rest]).reshape(-1, 4)
            leads = np.array([options[other][2][taken[other]] for other in rest]).reshape(-1, len(ALONG), 2)
            loss = fixed[place] + 25 * _common(boxes, theirs).sum(1) / unit**2 + 60 * _crossings(lines, leads)
            loss += 15 * (_within(leads, boxes).sum((1, 2)) + _within(lines, theirs).sum((0, 2)))
            taken[place] = int(np.argmin(loss))
            costs[place] = loss[taken[place]]
        if (before == taken).all():
            break
    return float(costs.sum()), taken


def _around(spot: Floats, wide: float, tall: float, unit: float) -> Place:
    """Places for a name around a point: distance [C], box [C, 4], and its line as points [C, len(ALONG), 2]."""
    reach, angle = (grid.ravel() for grid in np.meshgrid(REACHES, np.radians(np.arange(0, 360, 20)), indexing="ij"))
    across, up = np.cos(angle), np.sin(angle)
    left = spot[0] + reach * unit * across - wide * np.where(across < -0.1, 1, np.where(across > 0.1, 0, 0.5))
    bottom = spot[1] + reach * unit * up - tall / 2 + tall / 2 * up
    boxes = np.stack([left, bottom, left + wide, bottom + tall], 1)
    ends = np.clip(spot, boxes[:, :2], boxes[:, 2:])
    return reach, boxes, spot + (ends - spot)[:, None] * np.array(ALONG)[None, :, None]


def _common(one: Floats, two: Floats) -> Floats:
    """Area that boxes [C, 4] and [n, 4] (left, bottom, right, top) share, [C, n]."""
    sides = np.minimum(one[:, None, 2:], two[None, :, 2:]) - np.maximum(one[:, None, :2], two[None, :, :2])
    return np.asarray(np.clip(sides, 0, None).prod(2))


def _within(lines: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Which points of lines [n, P, 2] lie in boxes [C, 4]: [C, n, P]."""
    at, low, high = lines[None], boxes[:, None, None, :2], boxes[:, None, None, 2:]
    return np.asarray(((at > low) & (at < high)).all(-1))


def _crossings(lines: Floats, others: Floats) -> NDArray[np.int64]:
    """How many of the lines [n, P, 2] each of the lines [C, P, 2] crosses, [C]."""
    a, b = lines[:, None, 0], lines[:, None, -1]
    c, d = others[None, :, 0], others[None, :, -1]
    return np.asarray(((_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)).sum(1))


def _side(a: Floats, b: Floats, c: Floats) -> Floats:
    """On which side of the line from a to b point c lies: the sign."""
    u, v = b - a, c - a
    return np.asarray(np.sign(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]))
