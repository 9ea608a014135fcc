"""From groups of records to files: tables, figures and the page."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.errors import CHECK_FAILED, UserError, suggest
from benchmark.files import write_text
from benchmark.paths import CONFIGS
from benchmark.protocols import PROTOCOLS
from benchmark.report import class_means
from benchmark.report.compare import difference_table, gap_table, waterfall_table
from benchmark.report.csv_file import comma_separated
from benchmark.report.gather import warnings_of
from benchmark.report.published import against
from benchmark.report.rank_table import rank_table
from benchmark.report.render import Table, latex_document, markdown
from benchmark.report.render import escape_markdown as escape
from benchmark.report.results_frame import METRICS, Group
from benchmark.report.sources import learned_from
from benchmark.report.tables import (
    class_table,
    cost_tables,
    error_table,
    failure_table,
    object_table,
    score_table,
    subset_tables,
)
from benchmark.report.tuning import tuning_tables

TEXTS, FIGURES, PAGE = ("md", "tex", "csv"), ("png", "pdf"), ("html",)
FORMATS = (*TEXTS, *FIGURES, *PAGE)
MADE = {  # what a file of tables says of itself
    "tex": re.compile(r"^% (?P<title>.*); made by (?P<command>.*)$", re.M),
    "md": re.compile(r"\A## (?P<title>.*)$[\s\S]*^Made by `(?P<command>.*)`\. Made from", re.M),
}


class Report(NamedTuple):
    """What was written, and the Markdown to print."""

    paths: list[Path]
    text: str


def build(
    groups: Sequence[Group], results: Path, command: str, protocol: str = "strict", formats: Sequence[str] = FORMATS
) -> Report:
    """Write `results/tables/<name>.{md,tex,csv}`, `results/figures/<name>-*.{png,pdf}` and `results/pages/<name>.html`.

    command: what makes these files, for their provenance. The same records give the same text, byte for byte.
    UserError: unknown protocol or format; files of another experiment stand there.
    """
    _known("protocol", protocol, (*PROTOCOLS, class_means.VIEW))
    for name in formats:
        _known("format", name, FORMATS)
    for group in groups:
        check_owner(group, results, command)
    tables = {group.name: group_tables(group, protocol, groups) for group in groups}
    texts = {results / path: text for path, text in group_texts(groups, tables, command, protocol).items()}
    paths = [path for path in texts if path.suffix[1:] in formats]
    for path in paths:
        write_text(path, texts[path])
    if drawn := [name for name in formats if name in FIGURES]:
        from benchmark.report.figures import draw_all  # matplotlib takes a second to import

        for group in groups:
            paths += draw_all(group, results, results / "figures", drawn, f"{command}. {provenance(group)}")
    if "html" in formats:
        from benchmark.report.page import publish

        if protocol != "strict":
            tables = {group.name: group_tables(group, "strict", groups) for group in groups}
        paths += publish(groups, tables, results, origin(groups, command))
    return Report(paths, "\n".join(text for path, text in texts.items() if path.suffix == ".md"))


def check(groups: Sequence[Group], results: Path, command: str, protocol: str = "strict") -> list[Path]:
    """A report's text files and its page, all of them current; UserError names those that are missing or are not.

    Of the page its data are compared: its pictures come from masks that may not be here.
    """
    from benchmark.report.page import current, page_of

    tables = {group.name: group_tables(group, protocol, groups) for group in groups}
    texts = {results / path: text for path, text in group_texts(groups, tables, command, protocol).items()}
    outdated = [path for path, text in texts.items() if not path.is_file() or path.read_bytes() != text.encode()]
    page = page_of(groups, results)
    if not page.is_file() or not current(page.read_text(encoding="utf-8"), groups, origin(groups, command)):
        outdated.append(page)
    if outdated:
        names = ", ".join(map(str, outdated))
        raise UserError(f"not the files of these records: {names}; write them again with '{command}'", CHECK_FAILED)
    return [*texts, page]


def check_owner(group: Group, results: Path, command: str) -> None:
    """UserError where the tables of this name are another experiment's: names may differ in what a file name loses, and
    be the same in two folders. A file of an experiment that was moved is not another's."""
    plain = " ".join(group.title.split())
    own = {"tex": plain, "md": escape(plain)}
    for suffix, pattern in MADE.items():
        path = results / "tables" / f"{group.name}.{suffix}"
        found = pattern.search(path.read_text(encoding="utf-8")) if path.is_file() else None
        if found is None:
            continue
        here, there = _experiment(command), _experiment(found["command"])
        other_file = here.is_file() and there.is_file() and not there.samefile(here)
        if other_file or found["title"].partition(": ")[0] != own[suffix].partition(": ")[0]:
            raise UserError(f"{path}: this is a table of '{found['title']}', made by '{found['command']}'; rename one "
                            "of the two experiments, or move its files away")


def _experiment(command: str) -> Path:
    """The file of the experiment that a command names; one that is not there where it names none."""
    name = next(iter(shlex.split(command)[4:]), "")  # after `python -m benchmark report`
    return Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / "experiments" / f"{name}.yaml"


def group_texts(
    groups: Sequence[Group], tables: Mapping[str, Sequence[Table]], command: str, protocol: str
) -> dict[Path, str]:
    """Every text file of the report, by its path in the results folder."""
    found = {}
    for group in groups:
        stem = group.name if protocol == "strict" else f"{group.name}-{protocol}"
        comments = [f"{group.title}; made by {command}", provenance(group)]
        warnings, mine, learned = warnings_of(group), tables[group.name], learned_from(group)
        parts = [f"## {escape(group.title)}\n", *(f"{escape(text)}\n" for text in (group.about, learned) if text)]
        parts += [*(f"**Careful:** {escape(warning)}\n" for warning in warnings), *map(markdown, mine)]
        parts.append(f"Made by `{command}`. {escape(provenance(group))}\n")
        found[Path("tables", f"{stem}.md")] = "\n".join(parts)
        found[Path("tables", f"{stem}.tex")] = latex_document(mine, comments, stem, group.title, warnings, learned)
        found[Path("tables", f"{group.name}.csv")] = comma_separated(group, digest(group), groups)  # all protocols
        if protocol == class_means.VIEW:
            found[Path("tables", f"{stem}.csv")] = class_means.comma_separated(group, digest(group))
    return found


def origin(groups: Sequence[Group], command: str) -> str:
    """What the page says of where it comes from; whatever the protocol of the tables, it has all of them."""
    command = command.partition(" --protocol")[0]
    return "\n".join([command, *(f"{group.title}: {provenance(group)}" for group in groups)])


def group_tables(group: Group, protocol: str, groups: Sequence[Group] = ()) -> list[Table]:
    """All tables of a group that have rows. groups: with what other data its experiment has."""
    if protocol == class_means.VIEW:
        return [table for table in [class_means.table(group)] if table.rows]
    strict = protocol == "strict"
    tables: list[Table | None] = [score_table(group, protocol, metric) for metric in METRICS]
    tables += [difference_table(group), rank_table(group, groups), *tuning_tables(group)] if strict else []
    tables += [against(group).table]
    tables += [class_table(group), *subset_tables(group), error_table(group), object_table(group)] if strict else []
    tables += [gap_table(group), waterfall_table(group), *cost_tables(group), failure_table(group)]
    return [table for table in tables if table and table.rows]


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
