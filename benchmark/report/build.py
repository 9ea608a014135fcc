"""From all records of a results folder to its tables and figures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import UserError, suggest
from benchmark.files import write_atomically
from benchmark.protocols import PROTOCOLS
from benchmark.report.cells import Group, group_runs, safe_name
from benchmark.report.cost import cost_tables
from benchmark.report.doubts import doubts
from benchmark.report.gap import gap_table, waterfall_table
from benchmark.report.markdown import Table, escape, markdown
from benchmark.report.tables import failure_table, object_table, score_table
from benchmark.runs.records import read_records

FORMATS = ("md", "png")


class Report(NamedTuple):
    """What was written, the Markdown to print, and remarks for the reader at the terminal (figures left out)."""

    paths: list[Path]
    text: str
    remarks: list[str]


def build(
    results: Path, experiment: str | None = None, protocol: str = "strict", formats: Sequence[str] = FORMATS,
    planned: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:
    """Write `results/tables/<name>.md` and `results/figures/<name>*.png` for every (dataset, split, preset).

    `planned` (run id -> specification in JSON) are the runs of `experiment`: others are left out, missing ones are
    told. The same records give the same text, byte for byte. UserError: unknown protocol or format, no records.
    """
    _known("protocol", protocol, PROTOCOLS)
    for name in formats:
        _known("format", name, FORMATS)
    groups = group_runs(read_records(results / "records"), planned)
    if not groups:
        where = f"of experiment {experiment} " if planned is not None else ""
        raise UserError(f"{results / 'records'}: no records {where}to report; make one with 'python -m benchmark run'")
    report = Report([], "", [])
    texts = []
    for group in groups:
        name = f"{safe_name(experiment)}-{group.name}" if experiment else group.name
        text = group_text(group, protocol)
        texts.append(text)
        if "md" in formats:
            suffix = "" if protocol == "strict" else f"-{protocol}"
            report.paths.append(_write_text(results / "tables" / f"{name}{suffix}.md", text))
        if "png" in formats:
            _draw(group, results, name, report)
    return report._replace(text="\n".join(texts))


def group_text(group: Group, protocol: str) -> str:
    """All tables of a group in Markdown."""
    tables: list[Table | None] = [
        score_table(group, protocol),
        score_table(group, protocol, "jaccard"),
        object_table(group) if protocol == "strict" else None,
        gap_table(group),
        waterfall_table(group),
        *cost_tables(group),
        failure_table(group),
    ]
    parts = [f"## {escape(group.dataset)}, split {escape(group.split)}, preset {escape(group.preset)}\n"]
    parts += [f"**Careful:** {escape(doubt)}\n" for doubt in doubts(group)]
    parts += [markdown(table) for table in tables if table and table.rows]
    return "\n".join([*parts, _provenance(group)])


def _provenance(group: Group) -> str:
    """Which records this was made from: their number, and a digest that changes with any of them."""
    digest = hashlib.sha256()
    for run in sorted(group.runs, key=lambda run: run.record["run_id"]):
        digest.update(f"{run.record['run_id']} {run.record['status']} {run.record.get('counts_sha256')}\n".encode())
    records = "1 record" if len(group.runs) == 1 else f"{len(group.runs)} records"
    data = group.fingerprint[:12] or "unknown"
    return f"Made from {records} (digest {digest.hexdigest()[:12]}) of data {escape(data)}.\n"


def _draw(group: Group, results: Path, name: str, report: Report) -> None:
    """Figures; matplotlib is imported here, for its second of start-up. Pictures of others' data stay local."""
    from benchmark.report.figures import curve
    from benchmark.report.pictures import draw_panel, may_be_published

    figures = results / "figures"
    drawn = curve(group, figures / f"{name}-ratio.png")
    if drawn:
        report.paths.append(drawn)
    folder = figures if may_be_published(group.dataset) else _local(figures)
    shown, reason = draw_panel(group, results, folder / f"{name}-panel.png")
    if shown:
        report.paths.append(shown)
    else:
        report.remarks.append(f"{name}: no panel of images, {reason}")


def _local(figures: Path) -> Path:
    """A folder that keeps itself out of version control, for pictures that may not be published."""
    folder = figures / "local"
    write_atomically(folder / ".gitignore", lambda stream: stream.write(b"*\n"))
    return folder


def _write_text(path: Path, text: str) -> Path:
    write_atomically(path, lambda stream: stream.write(text.encode()))
    return path


def _known(kind: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UserError(f"unknown {kind} '{name}': known are {', '.join(names)}.{suggest(name, names)}")
