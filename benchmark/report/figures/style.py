"""What all figures share: colours that colour-blind readers can tell apart (Okabe and Ito 2008), layout, files.

Layout is in inches: names beside curves are placed by it, it is the same with every backend, and several times faster
than a solver's.
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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from seaborn import axes_style

from benchmark.files import write_atomically

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#9A8700")  # last: dark yellow
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))  # for more curves than colours
BLUE, VERMILION = COLOURS[:2]
INK, GREY, PALE = "#222222", "#6E6E6E", "#C9C9C9"
DPI = 130
LEAST = 4.4  # inches, that small multiples fill together
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
    "ytick.major.pad": 2.5, "axes.unicode_minus": True,
}  # fmt: skip


@contextmanager
def styled() -> Iterator[None]:
    """Our settings, whatever the user's own are; a dollar sign in a name starts no formula, and a letter that our font
    lacks makes no noise."""
    with style.context(["default", axes_style("ticks") | OURS]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # an unusual name is no reason to talk
        yield


def sheet(
    words: tuple[str, str, str], widths: Sequence[float], heights: Sequence[float], *, left: float = 0.6,
    right: float = 0.15, below: float = 0.5, titles: int = 0, gap: tuple[float, float] = (0.2, 0.2),
) -> list[Axes]:
    """Axes in rows and columns (whose titles have so many lines) of a new figure with a heading, a line about it and a
    footnote; in inches."""
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
    return figure.axes


def small_multiples(
    words: tuple[str, str, str], number: int, cell: tuple[float, float], columns: int, **options: Any
) -> list[Axes]:
    """`number` axes of the same size in at most `columns` columns of a new figure."""
    columns = -(-number // -(-number // columns))  # rows of nearly one length
    wider = min(max(1.0, LEAST / (columns * cell[0])), 2.2)
    rows = -(-number // columns)
    cells = sheet(words, [cell[0] * wider] * columns, [cell[1] * min(wider, 1.6)] * rows, **{"titles": 1} | options)
    for axes in cells[number:]:
        axes.remove()
    return cells[:number]


def figure_of(axes: Axes) -> Figure:
    """The figure that axes belong to."""
    assert isinstance(axes.figure, Figure)
    return axes.figure


def outer_labels(cells: Sequence[Axes], below: str, beside: str) -> None:
    """Of small multiples that share their axes, only those at the left and the lower edge say what they show."""
    places = [axes.get_position() for axes in cells]
    for axes, here in zip(cells, places, strict=True):
        lowest = not any(abs(other.x0 - here.x0) < 1e-6 and other.y0 < here.y0 - 1e-6 for other in places)
        first = not any(other.x0 < here.x0 - 1e-6 for other in places)
        axes.tick_params(labelbottom=lowest, labelleft=first)
        axes.set(xlabel=below if lowest else "", ylabel=beside if first else "")


def save(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS, provenance: str = "") -> list[Path]:
    """Write `stem`.png, `stem`.pdf: the same figure gives the same bytes. Each keeps its provenance as metadata."""
    FigureCanvasAgg(figure)
    paths = []
    for kind in formats:
        path = stem.with_name(f"{stem.name}.{kind}")
        metadata = METADATA[kind] | ({PROVENANCE[kind]: provenance} if provenance else {})
        write_atomically(path, partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata))
        paths.append(path)
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
