"""From groups of records to files: tables, figures and the page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import CHECK_FAILED, UserError, suggest
from benchmark.files import write_text
from benchmark.protocols import PROTOCOLS
from benchmark.report.against import against
from benchmark.report.cells import Group
from benchmark.report.classes import class_table
from benchmark.report.compare import best, difference_table
from benchmark.report.cost import cost_tables
from benchmark.report.gap import gap_table, waterfall_table
from benchmark.report.latex import document
from benchmark.report.markdown import escape, markdown
from benchmark.report.subsets import subset_tables
from benchmark.report.table import Table
from benchmark.report.tables import failure_table, object_table, score_table
from benchmark.report.values import comma_separated
from benchmark.report.warnings import doubts

TEXTS, FIGURES, PAGE = ("md", "tex", "csv"), ("png", "pdf"), ("html",)
FORMATS = (*TEXTS, *FIGURES, *PAGE)


class Report(NamedTuple):
    """What was written, and the Markdown to print."""

    paths: list[Path]
    text: str


class Sheets:
    """The tables of a report's groups, each worked out once."""

    def __init__(self, groups: Sequence[Group], protocol: str = "strict") -> None:
        self.groups, self.protocol = groups, protocol
        self.tables = {group.name: group_tables(group, protocol) for group in groups}

    def strict(self) -> dict[str, list[Table]]:
        """Those of the page, which switches protocols by itself."""
        return self.tables if self.protocol == "strict" else Sheets(self.groups).tables

    def texts(self, command: str) -> dict[Path, str]:
        """Every text file of the report, by its path in the results folder."""
        suffix = "" if self.protocol == "strict" else f"-{self.protocol}"
        found = {}
        for group in self.groups:
            tables, origin = self.tables[group.name], provenance(group)
            comments = [f"{group.title}; made by {command}", origin]
            stem = f"{group.name}{suffix}"
            found[Path("tables", f"{stem}.md")] = group_text(group, tables, command)
            found[Path("tables", f"{stem}.tex")] = document(tables, comments, stem, doubts(group))
            found[Path("tables", f"{group.name}.csv")] = comma_separated(group, digest(group))  # all protocols
        return found


def build(
    groups: Sequence[Group], results: Path, command: str, protocol: str = "strict", formats: Sequence[str] = FORMATS
) -> Report:
    """Write `results/tables/<name>.{md,tex,csv}`, `results/figures/<name>-*.{png,pdf}` and `results/pages/<name>.html`.

    command: what makes these files, for their provenance. The same records give the same text, byte for byte.
    UserError: unknown protocol or format.
    """
    _known("protocol", protocol, PROTOCOLS)
    for name in formats:
        _known("format", name, FORMATS)
    sheets = Sheets(groups, protocol)
    texts = sheets.texts(command)
    report = Report([], "\n".join(text for path, text in texts.items() if path.suffix == ".md"))
    for path, text in texts.items():
        if path.suffix[1:] in formats:
            write_text(results / path, text)
            report.paths.append(results / path)
    if drawn := [name for name in formats if name in FIGURES]:
        from benchmark.report.figures import draw_all  # matplotlib takes a second to import

        for group in groups:
            made = draw_all(group, results, results / "figures", drawn, f"{command}. {provenance(group)}")
            report.paths.extend(made)
    if "html" in formats:
        from benchmark.report.publish import publish

        report.paths.extend(publish(groups, sheets.strict(), results, origin(groups, command)))
    return report


def check(groups: Sequence[Group], results: Path, command: str, protocol: str = "strict") -> list[Path]:
    """A report's text files and its page, all of them current; UserError names those that are missing or are not.

    Of the page its data are compared: its pictures come from masks that may not be here.
    """
    from benchmark.report.page import current
    from benchmark.report.publish import page_of

    wanted = {results / path: text for path, text in Sheets(groups, protocol).texts(command).items()}
    outdated = [path for path, text in wanted.items() if not path.is_file() or path.read_bytes() != text.encode()]
    page = page_of(groups, results)
    shown = page.read_text(encoding="utf-8") if page.is_file() else ""
    if not current(shown, groups, origin(groups, command)):
        outdated.append(page)
    if outdated:
        names = ", ".join(map(str, outdated))
        raise UserError(f"not what these records come to: {names}; write them anew with '{command}'", CHECK_FAILED)
    return [*wanted, page]


def origin(groups: Sequence[Group], command: str) -> str:
    """What the page says of where it comes from; whatever the protocol of the tables, it has all of them."""
    command = command.partition(" --protocol")[0]
    return "\n".join([command, *(f"{group.title}: {provenance(group)}" for group in groups)])


def group_tables(group: Group, protocol: str) -> list[Table]:
    """All tables of a group that have rows."""
    strict = protocol == "strict"
    scores = []
    for metric in ("dice", "jaccard"):
        strong = {ratio: best(group, ratio, protocol, metric) for ratio in group.ratios}
        scores.append(score_table(group, protocol, metric, strong))
    tables: list[Table | None] = [
        *scores,
        difference_table(group) if strict else None,
        against(group).table,
        class_table(group) if strict else None,
        *(subset_tables(group) if strict else []),
        object_table(group) if strict else None,
        gap_table(group),
        waterfall_table(group),
        *cost_tables(group),
        failure_table(group),
    ]
    return [table for table in tables if table and table.rows]


def group_text(group: Group, tables: Sequence[Table], command: str) -> str:
    """All tables of a group in Markdown."""
    parts = [f"## {escape(group.title)}\n"]
    parts += [f"{escape(group.about)}\n"] if group.about else []
    parts += [f"**Careful:** {escape(doubt)}\n" for doubt in doubts(group)]
    parts += [markdown(table) for table in tables]
    return "\n".join([*parts, f"Made by `{command}`. {escape(provenance(group))}\n"])


def digest(group: Group) -> str:
    """Twelve hexadecimal digits that change with anything in any of a group's records."""
    found = hashlib.sha256()
    for run in sorted(group.runs, key=lambda run: run.record["run_id"]):
        found.update(json.dumps(run.record, sort_keys=True).encode())
    return found.hexdigest()[:12]


def provenance(group: Group) -> str:
    """Which records this was made from."""
    records = "1 record" if len(group.runs) == 1 else f"{len(group.runs)} records"
    return f"Made from {records} (digest {digest(group)}) of data {group.fingerprint[:12] or 'unknown'}."


def _known(kind: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UserError(f"unknown {kind} '{name}': known are {', '.join(names)}.{suggest(name, names)}")
