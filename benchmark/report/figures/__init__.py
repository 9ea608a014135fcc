"""Figures of a group of runs, drawn without a display. `draw_all` draws whatever its records allow."""

from benchmark.report.figures.all import Drawn, draw_all
from benchmark.report.figures.panel import Case, panel

__all__ = ["Case", "Drawn", "draw_all", "panel"]
