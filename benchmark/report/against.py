"""A published table beside ours: the difference of every cell, and whether it is more than spread explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.report import published, stats
from benchmark.report.cells import Group, Run
from benchmark.report.compare import signed
from benchmark.report.published import Cell, Published
from benchmark.report.table import NOTHING, Table
from benchmark.report.tables import MEANING, number, spread

HEADER = ("method", "labels", "measure", "published", "ours", "difference", "tolerance", "set-up", "verdict")


class Verdict(NamedTuple):
    """The table, how many of its cells were judged, and how many of these differ from what is published."""

    table: Table
    judged: int
    differing: int


class _Judged(NamedTuple):
    """One published cell beside ours: the row of the table, and whether they differ (None: not judged)."""

    row: list[str]
    differs: bool | None


def against(group: Group, name: str | None = None, folder: Path = published.FOLDER) -> Verdict:
    """A row for every cell that the published table has of this data set; no row where it has none, or there is none.

    `name` is that of a table in `folder`, the group's own by default. A difference counts when it is above
    max(2 sqrt(sd1^2 + sd2^2), the quantity's tolerance), all as printed, so that a reader can repeat it. UserError:
    there is no such table.
    """
    name = group.published if name is None else name
    if name is None:
        return Verdict(Table("Against published numbers", "None belong to these runs.", HEADER, []), 0, 0)
    table = published.read(name, folder)
    cells = [cell for cell in table.cells if cell.dataset in (None, group.dataset)]
    setups: dict[str, str] = {}  # what differs -> its mark
    judged = [_judge(group, table, cell, setups) for cell in cells]
    known = [entry.differs for entry in judged if entry.differs is not None]
    shown = Table(
        f"Against the published {table.title}", _caption(table, known), HEADER, [entry.row for entry in judged],
        _notes(group, table, cells, setups),
    )
    return Verdict(shown, len(known), sum(known))


def _judge(group: Group, table: Published, cell: Cell, setups: dict[str, str]) -> _Judged:
    quantity = cell.quantity
    known = [ratio for ratio in group.ratios if group.cell(cell.row, ratio) or group.lost(cell.row, ratio)]
    ratios = known if cell.ratio is None else [cell.ratio]
    runs = [run for ratio in ratios for run in group.finished(cell.row, ratio)]
    wanted = sum(group.draws(cell.row, ratio) for ratio in ratios)
    found = stats.summary(value for run in runs if (value := _value(run, table, cell)) is not None)
    printed = f"{cell.mean:g}" if quantity.value.startswith("cost.") else number(cell.mean)
    printed += "" if cell.sd is None else f" ± {number(cell.sd)}"
    row = [cell.row, NOTHING if cell.ratio is None else f"{cell.ratio} %", quantity.title, printed]
    devices = {run.record["environment"].get("device") for run in runs} if quantity.by_device else set()
    if not found.n or len(devices) > 1:
        why = f"{len(devices)} devices" if len(devices) > 1 else _nothing(group, cell.row, ratios, bool(runs))
        return _Judged([*row, NOTHING, NOTHING, NOTHING, NOTHING, f"not judged ({why})"], None)
    ours = round(found.mean, 2), 0.0 if math.isnan(found.sd) else round(found.sd, 2)
    difference = round(ours[0] - cell.mean, 2)
    tolerance = round(max(2 * math.hypot(ours[1], cell.sd or 0.0), quantity.tolerance), 2)
    n = f"({found.n}/{wanted})" if found.n < wanted else f"(n={found.n})"
    row += [f"{spread(found)} {n}", signed(difference)]
    mark = _setup(table, runs, setups)
    if cell.row in table.copied or quantity.not_judged:
        why = "copied" if cell.row in table.copied else "not comparable"
        return _Judged([*row, NOTHING, mark, f"not judged ({why})"], None)
    differs = abs(difference) > tolerance
    verdict = "differs" if differs else "agrees"
    if found.n < wanted:
        verdict += f" (incomplete: {found.n} of {wanted} draws)"
    return _Judged([*row, number(tolerance), mark, verdict], differs)


def _value(run: Run, table: Published, cell: Cell) -> float | None:
    """A finished run's value in the printed unit."""
    kind, key = cell.quantity.value.split(".", 1)
    value = run.scores[table.protocol or ""].get(key) if kind == "scores" else run.record["cost"].get(key)
    return None if value is None else cell.quantity.factor * value


def _nothing(group: Group, row: str, ratios: Sequence[int], finished: bool) -> str:
    """Why there is no value of ours."""
    if finished:
        return "our runs have no such value"
    states = {str(run.record["status"]) for ratio in ratios for run in group.cell(row, ratio)}
    states |= {entry.missing for ratio in ratios for entry in group.lost(row, ratio)}
    return f"nothing measured: {', '.join(sorted(states))}" if states else "nothing measured"


def _setup(table: Published, runs: Sequence[Run], setups: dict[str, str]) -> str:
    """`as published`, or the mark of what any of the runs does otherwise."""
    parts = []
    for words, settings in table.setup.items():
        other = {
            f"{key} {_text(value)}, not {_text(expected)}"
            for run in runs
            for key, expected in settings.items()
            if (value := {**run.spec, **run.spec["values"]}.get(key)) != expected
        }
        if other:
            parts.append(f"{words} ({'; '.join(sorted(other))})")
    if not parts:
        return "as published"
    return setups.setdefault(", ".join(parts), f"other ({len(setups) + 1})")


def _text(value: Any) -> str:
    return "unset" if value is None else str(value)


def _caption(table: Published, known: Sequence[bool]) -> str:
    ours = f"Ours: protocol {table.protocol}: {MEANING[table.protocol]}. " if table.protocol else ""
    least = {cell.quantity.title: cell.quantity.tolerance for cell in table.cells if not cell.quantity.not_judged}
    rule = f"max(2 sqrt(sd1² + sd2²), {', '.join(f'{value:g} for {title}' for title, value in least.items())})"
    return (
        f"Published: {table.source}, {table.title}: {table.about}. {ours}Mean ± sd (ddof 1) over draws, n draws, or "
        f"(k/n) where only k of n have a value. A cell differs where |difference| is above the tolerance, {rule}; a "
        f"spread that is not known counts as 0. Cells judged: {len(known)}, differing: {sum(known)}."
    )


def _notes(group: Group, table: Published, cells: Sequence[Cell], setups: dict[str, str]) -> list[str]:
    rows = list(dict.fromkeys(cell.row for cell in cells))
    notes = [f"Set-up {mark}: {what}." for what, mark in setups.items()]
    notes += [f"{row} is not judged: {table.copied[row]}." for row in rows if row in table.copied]
    reasons = {cell.quantity.title: cell.quantity.not_judged for cell in cells if cell.quantity.not_judged}
    notes += [f"{title} is not judged: {reason}." for title, reason in reasons.items()]
    if table.unpublished:
        notes.append(f"Not published, and so not compared: {table.unpublished}.")
    for cell in cells:
        if cell.note:
            place = cell.row if cell.ratio is None else f"{cell.row} at {cell.ratio} %"
            notes.append(f"{place}, {cell.quantity.title} as printed: {cell.note}.")
    notes += table.notes
    strangers = [label for label in group.labels if label not in rows]
    if strangers:
        notes.append(f"Not in the published table: {', '.join(strangers)}.")
    others = {cell.dataset for cell in table.cells} - {group.dataset, None}
    if others:
        notes.append(f"It also has numbers of other data: {', '.join(sorted(map(str, others)))}.")
    return notes
