r"""Tables as LaTeX with booktabs: a file that compiles as it is, and that a paper can \input."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmark.report.table import Bold, Table

# Inside a document \@nodocument is \relax; then only the tables are read, and the document needs booktabs and graphicx.
HEAD = r"""\expandafter\ifx\csname @nodocument\endcsname\relax\def\aftertables{}\else
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\usepackage[a4paper,landscape,margin=1cm]{geometry}
\def\aftertables{\end{document}}
\begin{document}
\fi
"""
FOOT = "\\aftertables\n"
MINUS = re.compile(r"(?<![\w-])-(?=\d)")  # of a number, not a hyphen
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "–": "--", "→": r"$\rightarrow$", "≥": r"$\geq$",
    "≤": r"$\leq$", "“": "``", "”": "''", "‘": "`", "’": "'", "×": r"$\times$", "−": "$-$",
}  # fmt: skip


def document(tables: Sequence[Table], comments: Sequence[str], name: str, careful: Sequence[str] = ()) -> str:
    """All tables in one file, labelled `tab:<name>-<title>`.

    comments: lines at its head. careful: what a reader must know before trusting any of the tables.
    """
    lines = [f"% {' '.join(line.split())}" for line in comments]
    return "\n".join([*lines, HEAD, *(latex(table, name, careful) for table in tables), FOOT])


def latex(table: Table, name: str = "table", careful: Sequence[str] = ()) -> str:
    """One table environment, no wider than the line; every cell is escaped."""
    columns = "l" + "r" * (len(table.header) - 1)
    rows = [" & ".join(map(_cell, row)) + r" \\" for row in table.rows]
    notes = [rf"\par\smallskip \textbf{{Careful:}} {escape(warning)}" for warning in careful]
    notes += [rf"\par\smallskip {escape(note)}" for note in (table.caption, *table.notes)]
    parts = [
        r"\begin{table}[htp]\centering\scriptsize",
        rf"\caption{{{escape(table.title)}.}}\label{{tab:{slug(name)}-{slug(table.title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_cell, table.header)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def slug(text: str) -> str:
    """Letters, digits and hyphens alone."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def escape(text: str) -> str:
    """Plain text that LaTeX sets as it is; a letter that its usual fonts lack becomes its code point."""
    return "".join(SPECIAL.get(letter) or _letter(letter) for letter in " ".join(text.split()))


def _letter(letter: str) -> str:
    return letter if ord(letter) < 0x180 else f"[U+{ord(letter):04X}]"


def _cell(text: str) -> str:
    # a bracket at the start of a row would be taken for an option of the \\ or \toprule before it
    shown = MINUS.sub("$-$", escape(text)).replace("[", "{[}")
    return rf"\textbf{{{shown}}}" if isinstance(text, Bold) else shown
