"""A table as plain text, to be rendered as Markdown, LaTeX or HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "–"


class Strong(str):
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
