"""A table as plain text, how its numbers are written, and its form in Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "–"
# Inside a document \@nodocument is \relax; then only the tables are read, and the document needs booktabs and graphicx.
LATEX_HEAD = r"""\expandafter\ifx\csname @nodocument\endcsname\relax\def\aftertables{}\else
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\usepackage[a4paper,landscape,margin=1cm]{geometry}
\def\aftertables{\end{document}}
\begin{document}
\fi
"""
LATEX_FOOT = "\\aftertables\n"
LATEX_LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "–": "--", "→": r"$\rightarrow$", "≥": r"$\geq$",
    "≤": r"$\leq$", "“": "``", "”": "''", "‘": "`", "’": "'", "×": r"$\times$", "−": "$-$",
}  # fmt: skip


class Bold(str):
    """The text of a cell that stands out: better than all others beyond chance."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """A title, a caption that says what the numbers are, a header, rows of plain text, and notes below."""

    title: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


# Numbers


def number(value: float) -> str:
    """Two decimals, a dash for nan."""
    return DASH if math.isnan(value) else f"{value:.2f}"


def signed(value: float) -> str:
    """Two decimals with a sign, no minus zero; a dash for nan."""
    return DASH if math.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"


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


# Markdown


def escape_markdown(text: str) -> str:
    """Plain text that Markdown shows as it is: no HTML, cell borders, emphasis, links or line breaks.

    What is harmless stays bare, so that the source reads well: an underscore inside a word, brackets without a target.
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|]|(?<!\w)_|_(?!\w)|\](?=[(\[:]))", r"\\\1", text)


def markdown(table: Table) -> str:
    """GitHub's Markdown; the first column is left-aligned, the others right."""

    def line(cells: Sequence[str]) -> str:
        shown = [f"**{escape_markdown(text)}**" if isinstance(text, Bold) else escape_markdown(text) for text in cells]
        return f"| {' | '.join(shown)} |"

    head = [f"### {escape_markdown(table.title)}", "", escape_markdown(table.caption), "", line(table.header)]
    head.append("|:--" + "|--:" * (len(table.header) - 1) + "|")
    notes = [text for note in table.notes for text in ("", escape_markdown(note))]
    return "\n".join([*head, *map(line, table.rows), *notes]) + "\n"


# LaTeX


def latex_document(
    tables: Sequence[Table], comments: Sequence[str], name: str, of: str, careful: Sequence[str] = (), learned: str = ""
) -> str:
    """All tables in one file with booktabs, which compiles as it is and which a paper can \\input.

    Each is labelled `tab:<name>-<title>`. comments: lines at the file's head. of: what every caption names. careful:
    warnings below every table. learned: sentences below every table, which a paper may take one by one.
    """
    lines = [f"% {' '.join(line.split())}" for line in comments]
    return "\n".join([*lines, LATEX_HEAD, *(latex(table, name, of, careful, learned) for table in tables), LATEX_FOOT])


def latex(table: Table, name: str, of: str, careful: Sequence[str] = (), learned: str = "") -> str:
    """One table environment, no wider than the line; every cell is escaped."""
    label = "-".join(re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") for text in (name, table.title))
    notes = [rf"\textbf{{Careful:}} {escape_latex(warning)}" for warning in careful]
    notes += map(escape_latex, (f"{table.caption} {learned}", *table.notes))
    parts = [
        r"\begin{table}[htp]\centering\scriptsize",
        rf"\caption{{{escape_latex(f'{table.title} ({of})')}.}}\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        _latex_row(table.header),
        r"\midrule",
        *map(_latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *(rf"\par\smallskip {note}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Plain text that LaTeX sets as it is; a letter that its usual fonts lack becomes its code point."""
    plain = " ".join(text.split())
    lacking = {x for x in plain if ord(x) >= 0x180 or x in "ĦħĸĿŀŉŦŧſ"}
    return "".join(LATEX_LETTERS.get(x) or (f"[U+{ord(x):04X}]" if x in lacking else x) for x in plain)


def _latex_row(cells: Sequence[str]) -> str:
    # a minus, not a hyphen; a bracket at the start of a row would be an option of the \\ or \toprule before it
    shown = [re.sub(r"(?<![\w-])-(?=\d)", "$-$", escape_latex(text)).replace("[", "{[}") for text in cells]
    bold = [isinstance(text, Bold) for text in cells]
    return " & ".join(rf"\textbf{{{x}}}" if loud else x for x, loud in zip(shown, bold, strict=True)) + r" \\"
