"""The page of a diagnosis: questions, what is seen, what to try, and curves, in one file that asks for nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmark.files import write_text
from benchmark.report.diagnose import Curve, Part
from benchmark.report.figures.style import COLOURS, DPI, METADATA, limits, name_ends, outer_labels, short, styled
from benchmark.report.page import templates
from benchmark.report.results_frame import Run

SIZE, PLACE = (4.6, 2.1), (0.13, 0.19, 0.57, 0.76)  # inches; left, bottom, width and height of the axes as shares


def write(run: Run, parts: Sequence[Part], results: Path) -> Path:
    """Write `results/pages/diagnose-<run>.html`."""
    with styled():
        shown = [(part, picture(part) if part.curves else "") for part in parts]
    path = results / "pages" / f"diagnose-{run.record['run_id']}.html"
    text = templates().get_template("diagnosis.html.j2").render(run=run.record, parts=shown)
    write_text(path, text.rstrip() + "\n")
    return path


def picture(part: Part) -> str:
    """The curves as a PNG in base64, each with its name at its end."""
    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    axes = figure.add_axes(PLACE)
    curves: list[tuple[str, Curve]] = list(part.curves.items())
    axes.set(ylim=limits([value for _, (_, values) in curves for value in values], least=1e-6))
    axes.set(xlim=(0, 1.03 * max(steps[-1] for _, (steps, _) in curves)))
    ends = []
    for shade, (name, (steps, values)) in zip(COLOURS, curves, strict=False):
        axes.plot(steps, values, color=shade, lw=1.5, marker="o" if len(steps) < 9 else "", ms=3)
        ends += [(steps[-1], values[-1], short(name, 20), shade)] * bool(values[-1] == values[-1])
    name_ends(axes, ends) if ends else None
    outer_labels([axes], "step", part.label)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata=METADATA["png"])
    return base64.b64encode(stream.getvalue()).decode()
