"""What all figures share: colours that colour-blind readers can tell apart (Okabe and Ito 2008), layout, files.

Layout is by hand, in inches: it is the same with every backend, and several times faster than a solver's.
"""

from __future__ import annotations

import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
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


@contextmanager
def styled() -> Iterator[None]:
    """Our settings, whatever the user's own are; a dollar sign in a name starts no formula, and a letter that our font
    lacks makes no noise."""
    ours: dict[str, Any] = axes_style("ticks") | {
        "font.family": ["DejaVu Sans"], "font.size": SIZE, "axes.titlesize": SIZE, "axes.labelsize": SIZE,
        "xtick.labelsize": SMALL + 0.5, "ytick.labelsize": SMALL + 0.5, "text.color": INK, "axes.labelcolor": INK,
        "axes.edgecolor": GREY, "xtick.color": INK, "ytick.color": INK, "axes.linewidth": 0.7, "text.parse_math": False,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#E4E4E4",
        "grid.linewidth": 0.6, "axes.axisbelow": True, "pdf.fonttype": 42, "xtick.major.size": 3,
        "ytick.major.size": 3, "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.major.pad": 2.5,
        "ytick.major.pad": 2.5, "axes.unicode_minus": True,
    }  # fmt: skip
    with style.context(["default", ours]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # an unusual name is no reason to talk
        yield


class Sheet:
    """A figure with rows and columns of axes (whose titles have so many lines), a heading and a footnote; in inches."""

    def __init__(
        self, heading: str, about: str, note: str, widths: Sequence[float], heights: Sequence[float], *,
        left: float = 0.6, right: float = 0.15, below: float = 0.5, titles: int = 0,
        gap: tuple[float, float] = (0.2, 0.2),
    ) -> None:
        across, down = sum(widths) + gap[0] * (len(widths) - 1), sum(heights) + gap[1] * (len(heights) - 1)
        width = left + across + right
        lines = [wrapped(text, int(width * places)) for text, places in ((heading, 12), (about, 16), (note, 19.5))]
        above = 0.2 * lines[0].count("\n") + 0.17 * lines[1].count("\n") + 0.58 + 0.14 * titles
        footer = 0.14 * (lines[2].count("\n") + 1) + 0.1 if note else 0.0
        height = above + down + below + footer
        self.figure = Figure(figsize=(width, height), facecolor="white", dpi=DPI)
        self.axes = np.empty((len(heights), len(widths)), object)
        top = above
        for row, tall in enumerate(heights):
            start = left
            for column, wide in enumerate(widths):
                box = (start / width, 1 - (top + tall) / height, wide / width, tall / height)
                self.axes[row, column] = self.figure.add_axes(box)
                start += wide + gap[0]
            top += tall + gap[1]
        place: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": 1.25}
        self.figure.text(0.1 / width, 1 - 0.08 / height, lines[0], fontsize=SIZE + 1.5, fontweight="bold", **place)
        under = 0.31 + 0.2 * lines[0].count("\n")
        self.figure.text(0.1 / width, 1 - under / height, lines[1], fontsize=SIZE - 0.5, color=GREY, **place)
        place["va"] = "bottom"
        self.figure.text(0.1 / width, 0.06 / height, lines[2], fontsize=SMALL - 0.3, color=GREY, **place)


def small_multiples(
    heading: str, about: str, note: str, number: int, cell: tuple[float, float], columns: int, **options: Any
) -> tuple[Sheet, list[Axes]]:
    """A sheet with `number` axes of the same size in at most `columns` columns; empty places are removed."""
    columns = -(-number // -(-number // columns))  # rows of nearly one length
    options = {"titles": 1} | options
    wider = min(max(1.0, LEAST / (columns * cell[0])), 2.2)
    cell = cell[0] * wider, cell[1] * min(wider, 1.6)
    rows = -(-number // columns)
    sheet = Sheet(heading, about, note, [cell[0]] * columns, [cell[1]] * rows, **options)
    cells = list(sheet.axes.ravel())
    for axes in cells[number:]:
        axes.remove()
    return sheet, cells[:number]


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


def joined(lines: Iterable[tuple[Iterable[float], Iterable[float]]]) -> tuple[list[float], list[float]]:
    """Many lines (x, y) as one with gaps: a page of small multiples has them in each, and one is drawn far sooner."""
    x, y = [], []
    for one, two in lines:
        x += [*one, math.nan]
        y += [*two, math.nan]
    return x, y


def wrapped(text: str, width: int = 30, lines: int = 4) -> str:
    """Text on at most so many lines; what does not fit ends in dots."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), width, max_lines=lines, placeholder=" …"))


def short(text: str, width: int = 34) -> str:
    """One line at most `width` long: the middle of a long name is the part that is missed least."""
    text = " ".join(text.split())
    if len(text) > width:
        text = re.sub(r"\b\w+\.(?=\w+=)", "", text)  # a setting without its section
    return text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width - width // 2):]}"


def limits(
    values: NDArray[np.float64] | Sequence[float], share: float = 0.06, least: float = 1.0
) -> tuple[float, float]:
    """Ends of an axis that shows all finite values with some air; `least` is its least length."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    air = max(share * (high - low), (least - (high - low)) / 2)
    return low - air, high + air
