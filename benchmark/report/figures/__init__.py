"""Figures of a group of runs, drawn without a display. `draw_all` draws whatever its records allow."""

from benchmark.report.figures.all import draw_all
from benchmark.report.figures.panel import Case, panel

__all__ = ["Case", "draw_all", "panel"]
