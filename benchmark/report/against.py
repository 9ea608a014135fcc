"""A published table beside ours: the difference of every cell, and whether it is more than spread explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.protocols import MEANING
from benchmark.report import published
from benchmark.report.published import Published
from benchmark.report.results_frame import Group, Run
from benchmark.report.table import DASH, Table, cell, number, signed

HEADER = ("method", "labels", "measure", "published", "ours", "difference", "tolerance", "set-up", "result")


class Comparison(NamedTuple):
    """The table, how many of its cells were compared, and how many of these differ from what is published."""

    table: Table
    compared: int
    differing: int


def against(group: Group, name: str | None = None, folder: Path = published.FOLDER) -> Comparison:
    """A row for every cell that the published table has of this data set; no row where it has none, or there is none.

    `name` is that of a table in `folder`, the group's own by default. A difference counts when it is above
    max(2 sqrt(sd1^2 + sd2^2), the quantity's tolerance), all as printed, so that a reader can repeat it. UserError:
    there is no such table.
    """
    name = group.published if name is None else name
    if name is None:
        return Comparison(Table("Against published numbers", "None belong to these runs.", HEADER, []), 0, 0)
    table = published.read(name, folder)
    cells = [entry for entry in table.cells.itertuples() if entry.dataset in ("", group.dataset)]
    setups: dict[str, str] = {}  # what differs -> its mark
    rows = [_row(group, table, entry, setups) for entry in cells]
    results = [row[-1].split(" (")[0] for row in rows]
    compared, differing = sum(result != "not compared" for result in results), results.count("differs")
    caption, notes = _caption(table, compared, differing), _notes(group, table, cells, setups)
    shown = Table(f"Against the published {table.about.title}", caption, HEADER, rows, notes)
    return Comparison(shown, compared, differing)


def _row(group: Group, table: Published, entry: Any, setups: dict[str, str]) -> list[str]:
    """One published cell beside ours."""
    quantity = table.file.quantities[entry.quantity]
    there = group.cells[(group.cells.finished > 0) | group.cells.states.map(bool)].index
    places = [place for place in there if place[0] == entry.row and entry.ratio in (None, place[1])]
    runs = [run for place in places for run in group.finished(*place)]
    values = pd.Series([_value(run, table, entry.quantity) for run in runs], dtype=float).dropna()
    expected = int(group.cells.loc[places].expected.sum()) if places else 0
    printed = f"{entry.mean:g}" if quantity.value.startswith("cost.") else number(entry.mean)
    printed += "" if math.isnan(entry.sd) else f" ± {number(entry.sd)}"
    row = [group.display(entry.row), DASH if entry.ratio is None else f"{entry.ratio} %", quantity.title, printed]
    devices = {run.record["environment"].get("device") for run in runs} if quantity.by_device else set()
    if values.empty or len(devices) > 1:
        why = f"{len(devices)} devices" if len(devices) > 1 else _nothing(group, places, bool(runs))
        return [*row, DASH, DASH, DASH, DASH, f"not compared ({why})"]
    found = {"mean": values.mean(), "sd": values.std(), "n": len(values), "expected": expected}
    mean, sd = (0.0 if math.isnan(found[key]) else round(found[key], 2) for key in ("mean", "sd"))
    difference = round(mean - entry.mean, 2)
    row += [cell(found), signed(difference)]
    mark = _setup(table, runs, setups)
    if entry.row in table.about.copied or quantity.not_compared:
        why = "copied" if entry.row in table.about.copied else "not comparable"
        return [*row, DASH, mark, f"not compared ({why})"]
    tolerance = round(max(2 * math.hypot(sd, 0.0 if math.isnan(entry.sd) else entry.sd), quantity.tolerance or 0.0), 2)
    result = "differs" if abs(difference) > tolerance else "agrees"
    if len(values) < expected:
        result += f" (incomplete: {len(values)} of {expected} draws)"
    return [*row, number(tolerance), mark, result]


def _value(run: Run, table: Published, name: str) -> float | None:
    """A finished run's value in the printed unit."""
    quantity = table.file.quantities[name]
    kind, key = quantity.value.split(".", 1)
    value = run.scores[table.about.protocol or ""].get(key) if kind == "scores" else run.record["cost"].get(key)
    return None if value is None else quantity.factor * value


def _nothing(group: Group, places: Sequence[Any], finished: bool) -> str:
    """Why there is no value of ours."""
    if finished:
        return "our runs have no such value"
    states = sorted({state for place in places for state in group.cells.states[place]})
    return f"nothing measured: {', '.join(states)}" if states else "nothing measured"


def _setup(table: Published, runs: Sequence[Run], setups: dict[str, str]) -> str:
    """`as published`, or the mark of what any of the runs does otherwise."""
    parts = []
    for words, settings in table.file.setup.items():
        other = {
            f"{key} {'unset' if value is None else value}, not {'unset' if expected is None else expected}"
            for run in runs
            for key, expected in settings.items()
            if (value := {**run.spec, **run.spec["values"]}.get(key)) != expected
        }
        if other:
            parts.append(f"{words} ({'; '.join(sorted(other))})")
    return setups.setdefault(", ".join(parts), f"other ({len(setups) + 1})") if parts else "as published"


def _caption(table: Published, compared: int, differing: int) -> str:
    about = table.about
    ours = f"Ours: protocol {about.protocol}: {MEANING[about.protocol]}. " if about.protocol else ""
    quantities = [table.file.quantities[name] for name in table.cells.quantity.unique()]
    least = [f"{quantity.tolerance:g} for {quantity.title}" for quantity in quantities if not quantity.not_compared]
    return (
        f"Published: {table.file.source}, {about.title}: {about.about}. {ours}Mean ± sd (ddof 1) over draws, n draws, "
        "or (k/n) where only k of n have a value. A cell differs where |difference| is above the tolerance, max(2 "
        f"sqrt(sd1² + sd2²), {', '.join(least)}); a spread that is not known counts as 0. Cells compared: {compared}, "
        f"differing: {differing}."
    )


def _notes(group: Group, table: Published, cells: Sequence[Any], setups: dict[str, str]) -> list[str]:
    about, quantities = table.about, table.file.quantities
    reasons = {group.display(entry.row): about.copied.get(entry.row, "") for entry in cells}
    reasons |= {quantities[entry.quantity].title: quantities[entry.quantity].not_compared for entry in cells}
    notes = [f"Set-up {mark}: {what}." for what, mark in setups.items()]
    notes += [f"{name} is not compared: {reason}." for name, reason in reasons.items() if reason]
    if table.file.unpublished:
        notes.append(f"Not published, and so not compared: {table.file.unpublished}.")
    for entry in cells:
        if entry.note:
            place = entry.row if entry.ratio is None else f"{entry.row} at {entry.ratio} %"
            notes.append(f"{place}, {quantities[entry.quantity].title} as printed: {entry.note}.")
    notes += about.notes
    if strangers := [group.display(row) for row in group.rows if row not in {entry.row for entry in cells}]:
        notes.append(f"Not in the published table: {', '.join(strangers)}.")
    return notes
