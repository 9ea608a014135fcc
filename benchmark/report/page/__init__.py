"""The page: one HTML file with every table, picture and run of a report; it opens from disk and asks for nothing."""

from __future__ import annotations

from benchmark.report.page.numbers import data
from benchmark.report.page.render import current, render

__all__ = ["current", "data", "render"]
