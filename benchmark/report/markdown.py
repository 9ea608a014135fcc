"""Tables as GitHub's Markdown."""

from __future__ import annotations

import re

from benchmark.report.table import Bold, Table


def escape(text: str) -> str:
    """Plain text that Markdown shows as it is: no HTML, cell borders, emphasis, links or line breaks.

    What is harmless stays bare, so that the source reads well: an underscore inside a word, brackets without a target.
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|]|(?<!\w)_|_(?!\w)|\](?=[(\[:]))", r"\\\1", text)


def markdown(table: Table) -> str:
    """GitHub's Markdown; every cell is escaped, the first column is left-aligned, the others right."""
    lines = [f"### {escape(table.title)}", "", escape(table.caption), ""]
    lines.append("| " + " | ".join(escape(cell) for cell in table.header) + " |")
    lines.append("|" + "|".join(":--" if column == 0 else "--:" for column in range(len(table.header))) + "|")
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    for note in table.notes:
        lines += ["", escape(note)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return f"**{escape(text)}**" if isinstance(text, Bold) else escape(text)
