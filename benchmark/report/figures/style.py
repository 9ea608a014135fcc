"""What all figures share: colours that colour-blind readers can tell apart (Okabe and Ito 2008), layout, names, files.

Layout is in inches: names beside curves are placed by it, and it is several times faster than a solver's.
"""

from __future__ import annotations

import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from seaborn import axes_style

from benchmark.files import write_atomically

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8700")  # last: dark yellow
BLUE, VERMILION = COLOURS[:2]
INK, GREY, PALE = "#222222", "#6E6E6E", "#C9C9C9"
DPI = 130
SIZE, SMALL = 9.0, 7.5  # points
FORMATS = ("png", "pdf")
METADATA: dict[str, dict[str, Any]] = {  # nothing in a file tells when, or with which version, it was drawn
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
PROVENANCE = {"png": "Description", "pdf": "Subject"}
OURS: dict[str, Any] = {
    "font.family": ["DejaVu Sans"], "font.size": SIZE, "axes.titlesize": SIZE, "axes.labelsize": SIZE,
    "xtick.labelsize": SMALL + 0.5, "ytick.labelsize": SMALL + 0.5, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": GREY, "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.7, "text.parse_math": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "pdf.fonttype": 42, "xtick.major.size": 3,
    "ytick.major.size": 3, "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.major.pad": 2.5,
    "ytick.major.pad": 2.5,
}  # fmt: skip
Words = tuple[str, str, str]  # a figure's heading, a line about it, and a footnote
Named = Sequence[tuple[float, float, str, str]]  # x, y, name, colour


@contextmanager
def styled() -> Iterator[None]:
    """Our settings, whatever the user's own are; a dollar sign in a name starts no formula, and a letter that our font
    lacks makes no noise."""
    with style.context(["default", axes_style("ticks") | OURS]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def sheet(
    words: Words, widths: Sequence[float], heights: Sequence[float], *, left: float = 0.65, right: float = 0.15,
    below: float = 0.5, titles: int = 0, gap: tuple[float, float] = (0.2, 0.2),
) -> tuple[Figure, list[Axes]]:
    """A new figure with axes in rows and columns (whose titles have so many lines); in inches."""
    across, down = sum(widths) + gap[0] * (len(widths) - 1), sum(heights) + gap[1] * (len(heights) - 1)
    width = left + across + right
    heading, about, note = (wrapped(t, int(width * places)) for t, places in zip(words, (12, 16, 19.5), strict=True))
    above = 0.2 * heading.count("\n") + 0.17 * about.count("\n") + 0.58 + 0.14 * titles
    height = above + down + below + (0.14 * (note.count("\n") + 1) + 0.1 if note else 0.0)
    figure = Figure(figsize=(width, height), facecolor="white", dpi=DPI)
    for row, tall in enumerate(heights):
        bottom = height - above - sum(heights[: row + 1]) - gap[1] * row
        for column, wide in enumerate(widths):
            start = left + sum(widths[:column]) + gap[0] * column
            figure.add_axes((start / width, bottom / height, wide / width, tall / height))
    place: dict[str, Any] = {"ha": "left", "linespacing": 1.25}
    figure.text(0.1 / width, 1 - 0.08 / height, heading, fontsize=SIZE + 1.5, fontweight="bold", va="top", **place)
    under = 1 - (0.31 + 0.2 * heading.count("\n")) / height
    figure.text(0.1 / width, under, about, fontsize=SIZE - 0.5, color=GREY, va="top", **place)
    figure.text(0.1 / width, 0.06 / height, note, fontsize=SMALL - 0.3, color=GREY, va="bottom", **place)
    return figure, figure.axes


def small_multiples(
    words: Words, number: int, cell: tuple[float, float], columns: int, **options: Any
) -> tuple[Figure, list[Axes]]:
    """`number` axes of the same size in at most `columns` columns of a new figure; few of them are larger."""
    rows = -(-number // columns)
    columns = -(-number // rows)  # rows of nearly one length
    wider = min(max(1.0, 4.4 / (columns * cell[0])), 2.2)
    widths, heights = [cell[0] * wider] * columns, [cell[1] * min(wider, 1.6)] * rows
    figure, cells = sheet(words, widths, heights, **{"titles": 1} | options)
    for axes in cells[number:]:
        axes.remove()
    return figure, cells[:number]


def outer_labels(cells: Sequence[Axes], below: str, beside: str) -> None:
    """Of small multiples that share their axes, only those at the left and the lower edge say what they show."""
    places = [axes.get_position() for axes in cells]
    for axes, here in zip(cells, places, strict=True):
        lowest = not any(abs(other.x0 - here.x0) < 1e-6 and other.y0 < here.y0 - 1e-6 for other in places)
        first = not any(other.x0 < here.x0 - 1e-6 for other in places)
        axes.tick_params(labelbottom=lowest, labelleft=first)
        axes.set(xlabel=below if lowest else "", ylabel=beside if first else "")


def list_rows(axes: Axes, number: int, label: str, values: Sequence[float]) -> None:
    """Rows from above, without an axis of their own."""
    axes.set(ylim=(number - 0.5, -0.5), yticks=[], xlim=limits(values), xlabel=label)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")


def save(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS, provenance: str = "") -> list[Path]:
    """Write `stem`.png, `stem`.pdf: the same figure gives the same bytes. Each keeps its provenance as metadata."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in formats]
    for kind, path in zip(formats, paths, strict=True):
        metadata = METADATA[kind] | ({PROVENANCE[kind]: provenance} if provenance else {})
        write_atomically(path, partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata))
    return paths


def wrapped(text: str, width: int = 30, lines: int = 4) -> str:
    """Text on at most so many lines; what does not fit ends in dots."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), width, max_lines=lines, placeholder=" …"))


def short(text: str, width: int = 34, part: str = "") -> str:
    """One line at most `width` long: the middle of a long name is the part that is missed least. `part`, e.g. `(2/3)`
    for what is missing of a row's draws, follows and is never cut."""
    text, width = " ".join(text.split()), width - len(part) - 1 if part else width
    if len(text) > width:
        text = re.sub(r"\b\w+\.(?=\w+=)", "", text)  # a setting without its section
    text = text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width - width // 2):]}"
    return f"{text} {part}".strip()


def limits(values: ArrayLike, share: float = 0.06, least: float = 1.0) -> tuple[float, float]:
    """Ends of an axis that shows all finite values with some air; `least` is its least length."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    air = max(share * (high - low), (least - (high - low)) / 2)
    return low - air, high + air


def with_gaps(lines: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[list[float], list[float]]:
    """Many lines (x, y) as one with gaps: a page of small multiples has them in each, and one is drawn far sooner."""
    return [x for line in lines for x in (*line[0], math.nan)], [y for line in lines for y in (*line[1], math.nan)]


def name_ends(axes: Axes, ends: Named, size: float = SMALL) -> None:
    """Write the names of curves right of the axes, beside their last points and never on top of each other. The limits
    must be set already."""
    low, high = axes.get_ylim()
    unit = (high - low) / (axes.get_window_extent().height / DPI * 72)  # a point on the axis
    order = np.argsort([y for _, y, _, _ in ends], kind="stable")
    steps = np.arange(len(ends)) * size * 1.25 * unit
    apart = isotonic_regression([ends[place][1] - step for place, step in zip(order, steps, strict=True)]).x
    places = np.clip(apart, low, max(low, high - steps[-1])) + steps
    for (x, y, name, colour), place in zip((ends[place] for place in order), places, strict=True):
        line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 1.5, "relpos": (0, 0.5)}
        axes.annotate(
            name, (x, y), xytext=(1.045, (place - low) / (high - low)), textcoords="axes fraction", fontsize=size,
            color=colour, va="center", annotation_clip=False, arrowprops=line,
        )  # fmt: skip


def name_points(axes: Axes, points: Named) -> None:
    """Write names near points where there is room; a thin line leads to a name further away.

    Point by point, those with the most neighbours first, each takes the place that covers least and is nearest. The
    limits must be set already.
    """
    unit = axes.figure.dpi / 72  # pixels a point
    room, spots = axes.get_window_extent(), axes.transData.transform([(x, y) for x, y, _, _ in points])
    grid = np.meshgrid(np.arange(5, 90, 3.5), np.radians(np.arange(0, 360, 20)), indexing="ij")
    reach, across, up = grid[0].ravel(), np.cos(grid[1]).ravel(), np.sin(grid[1]).ravel()
    taken = [np.hstack([spots - 3.6 * unit, spots + 3.6 * unit])]  # boxes: left, bottom, right, top
    halo = np.array([9, 6]) * unit  # a name in it looks like that of another point
    near = (np.abs(spots[:, None] - spots) < np.array([60, 20]) * unit).all(-1).sum(1)
    for place in np.argsort(-near, kind="stable"):
        (x, y, name, shade), spot = points[place], spots[place]
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=SMALL, zorder=4,
                             va="bottom", color=INK if shade == GREY else shade)  # fmt: skip
        wide, tall = text.get_window_extent().size
        left = spot[0] + reach * unit * across - (wide + 2 * unit) * np.clip(0.5 - across * 5, 0, 1)
        bottom = spot[1] + reach * unit * up - tall / 2 + tall / 2 * up
        boxes = np.stack([left, bottom, left + wide + 2 * unit, bottom + tall], 1)
        outside = ((boxes[:, :2] < room.min) | (boxes[:, 2:] > room.max)).any(1)
        covered = _common(boxes, np.concatenate(taken))
        crowded = _common(boxes, np.delete(np.hstack([spots - halo, spots + halo]), place, 0))
        best = np.argmin(1.5 * reach + 1e6 * outside + (25 * covered + 2 * crowded) / unit**2)
        box = boxes[best]
        taken.append(box[None])
        text.set_position((box[:2] - spot) / unit)
        ends = np.array([spot, np.clip(spot, box[:2], box[2:])])
        if math.dist(*ends) > 5.5 * unit:
            axes.plot(*axes.transData.inverted().transform(ends).T, color=shade, alpha=0.7, lw=0.6, zorder=1.5)


def _common(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area that each of the boxes [C, 4] shares with all of the boxes [n, 4], [C]."""
    sides = np.minimum(one[:, None, 2:], two[None, :, 2:]) - np.maximum(one[:, None, :2], two[None, :, :2])
    return np.asarray(np.clip(sides, 0, None).prod(2).sum(1))
