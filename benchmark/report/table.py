"""A table as plain text, to be rendered as Markdown, LaTeX or HTML; and how its numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "–"


class Bold(str):
    """The text of a cell that stands out: better than the runner-up beyond chance."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """A title, a caption that says what the numbers are, a header, rows of plain text, and notes below."""

    title: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def number(value: float) -> str:
    """Two decimals, a dash for nan."""
    return DASH if math.isnan(value) else f"{value:.2f}"


def signed(value: float) -> str:
    """Two decimals with a sign, no minus zero; a dash for nan."""
    return number(value) if math.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"


def p_value(value: float) -> str:
    """Four decimals; what they cannot show is said to be below them."""
    return DASH if math.isnan(value) else "<0.0001" if value < 0.00005 else f"{value:.4f}"


def part(n: int, expected: int) -> str:
    """`(2/3)` where only n of the expected draws are there, else nothing."""
    return f"({n}/{expected})" if n < expected else ""


def spread(found: Mapping[str, Any]) -> str:
    """`mean ± sd`, or the mean alone of a single value."""
    return number(found["mean"]) + (f" ± {number(found['sd'])}" if found["n"] > 1 else "")


def cell(found: Mapping[str, Any]) -> str:
    """Of mean, sd, n and expected: `81.23 ± 0.45 (n=3)`, or `(2/3)` where draws are missing."""
    return f"{spread(found)} {part(found['n'], found['expected']) or '(n={})'.format(found['n'])}"


def between(found: Mapping[str, Any]) -> str:
    """Of low and high: ` [78.90, 83.10]`, or nothing where there is no interval."""
    return "" if math.isnan(found["low"]) else f" [{number(found['low'])}, {number(found['high'])}]"
