"""A method's docstring, taken apart: what `list`, `explain` and docs/methods.md show of it comes from here.

    Name (Authors year, venue): the idea in one sentence.

    Perhaps a paragraph.

    Loss:
        the equation of every term
    Args:
        weight: one hyper-parameter, what published code has, and why this default
    Differs from published code:
        - one deviation
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LOSS, ARGUMENTS, DIFFERS = "Loss", "Args", "Differs from published code"


@dataclass(frozen=True)
class Docstring:
    """The parts of a docstring; `loss` keeps its lines, everything else is one line each."""

    summary: str
    about: tuple[str, ...]
    loss: tuple[str, ...]
    arguments: Mapping[str, str]
    differs: tuple[str, ...]


def parse(text: str) -> Docstring:
    """The parts of a docstring without indentation, as `inspect.cleandoc` gives it."""
    head, *rest = re.split(rf"^({LOSS}|{ARGUMENTS}|{DIFFERS}):$", text, flags=re.MULTILINE)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    summary, *about = (" ".join(part.split()) for part in head.strip().split("\n\n"))
    arguments = (line.partition(": ") for line in _entries(sections.get(ARGUMENTS, "")))
    return Docstring(
        summary, tuple(about), tuple(_entries(sections.get(LOSS, ""))),
        {name: about for name, _, about in arguments},
        tuple(line.removeprefix("- ") for line in _entries(sections.get(DIFFERS, ""))),
    )


def _entries(section: str) -> list[str]:
    """The lines of a section, each with the deeper ones that continue it."""
    lines = [line for line in section.splitlines() if line.strip()]
    depth = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    entries: list[str] = []
    for line in lines:
        if line[depth] == " " and entries:
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line.strip())
    return entries
