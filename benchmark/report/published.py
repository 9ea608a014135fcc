"""Numbers that a publication prints, beside ours: the difference of every cell, and whether spread explains it.

configs/paper keeps them: cells in CSV, and what is known of them in YAML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pandas as pd
from pydantic import StringConstraints, model_validator

from benchmark.config import yaml_files
from benchmark.errors import UserError, suggest
from benchmark.paths import CONFIGS
from benchmark.protocols import MEANING
from benchmark.report.render import DASH, Table, cell, number, signed
from benchmark.report.results_frame import Group, Run

FOLDER = CONFIGS / "paper"
PLACE = ["dataset", "row", "ratio"]
PAIRS = {"pooled": "with Dice = 2J / (1 + J), so of pooled pixels", "means": "with a lower Dice, so means over images",
         "impossible": "with a higher Dice, which no measure of the same pixels has"}
HEADER = ("method", "labels", "measure", "published", "ours", "difference", "tolerance", "set-up", "result")


class Quantity(yaml_files.Strict):
    """What is compared: `value` is scores.<metric> or cost.<key> of a run, times `factor` in the printed unit.

    tolerance: the least difference that counts, in the printed unit. not_compared: why no difference counts, or empty.
    by_device: whether it depends on the device, so that values of several cannot be averaged.
    """

    title: str
    value: Annotated[str, StringConstraints(pattern=r"^(scores|cost)\..")]
    factor: float = 1.0
    tolerance: float | None = None
    not_compared: str = ""
    by_device: bool = False

    @model_validator(mode="after")
    def _has_a_measure(self) -> Quantity:
        if self.tolerance is None and not self.not_compared:
            raise ValueError("needs a tolerance, or not_compared with the reason")
        return self


class Description(yaml_files.Strict):
    """What is known of a published table.

    protocol: the view on our counts that it is compared with; None where it holds no scores. copied: row -> why its
    numbers are not the publication's own.
    """

    title: str
    about: str = ""
    protocol: Literal["strict", "validation", "paper"] | None = None
    copied: dict[str, str] = {}
    notes: list[str] = []


class Index(yaml_files.Strict):
    """The file tables.yaml. setup: what it is called -> our settings, as published."""

    source: str = ""
    setup: dict[str, dict[str, Any]] = {}
    unpublished: str = ""
    quantities: dict[str, Quantity]
    tables: dict[str, Description]


class Published(NamedTuple):
    """A published table. cells: a line a printed number: dataset ("" for any), row, ratio (None for any), quantity,
    mean, sd (nan where it is not printed) and note. file: what holds for all tables of the publication."""

    file: Index
    about: Description
    cells: pd.DataFrame


def read(name: str, folder: Path = FOLDER) -> Published:
    """The table called `name`; UserError with file and cause where there is none, or its files are wrong."""
    path = folder / "tables.yaml"
    index = yaml_files.load(path, Index)
    if name not in index.tables:
        raise UserError(f"{path}: unknown table '{name}'.{suggest(name, index.tables)}")
    about, cells = index.tables[name], _cells(folder / f"{name}.csv", index.quantities)
    if about.protocol is None and any(index.quantities[key].value.startswith("scores.") for key in cells.quantity):
        raise UserError(f"{path}, {name}: it holds scores, and no protocol says which of ours they are compared with")
    return Published(index, about, cells)


def _cells(path: Path, quantities: Mapping[str, Quantity]) -> pd.DataFrame:
    """The numbers of a CSV file, in its order; every row of it by quantity."""
    try:
        given = pd.read_csv(path, dtype=str, keep_default_na=False)
        mine = [name for name in quantities if name in given]
        known = [*PLACE, *mine, *(f"{name}_{what}" for name in mine for what in ("sd", "note"))]
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"unknown column '{unknown[0]}'")
        given = given.reindex(columns=known, fill_value="")
        if (twice := given.duplicated(PLACE)).any():
            raise ValueError(f"line {twice.idxmax() + 2}: the same dataset, row and ratio as in a line before")
        given["ratio"] = pd.Series([int(ratio) if ratio else None for ratio in given.ratio], dtype=object)
        numbers = [name for name in known if name not in PLACE and not name.endswith("_note")]
        given[numbers] = given[numbers].replace("", None).astype(float)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    parts = [
        given[PLACE].assign(quantity=name, mean=given[name], sd=given[f"{name}_sd"], note=given[f"{name}_note"])
        for name in mine
    ]
    return pd.concat(parts).dropna(subset=["mean"]).sort_index(kind="stable")


class Comparison(NamedTuple):
    """The table, how many of its cells were compared, and how many of these differ from what is published."""

    table: Table
    compared: int
    differing: int


def against(group: Group, folder: Path = FOLDER) -> Comparison:
    """A row for every cell that the published table has of this data set; no row where it has none, or there is none.

    A difference counts when it is above max(2 sqrt(sd1^2 + sd2^2), the quantity's tolerance), all as printed, so that a
    reader can repeat it. UserError: `folder` has no table of the name that the group says.
    """
    if group.published is None:
        return Comparison(Table("Against published numbers", "None belong to these runs.", HEADER, []), 0, 0)
    table = read(group.published, folder)
    about, quantities = table.about, table.file.quantities
    cells = [entry for entry in table.cells.itertuples() if entry.dataset in ("", group.dataset)]
    setups: dict[str, str] = {}  # what differs -> its mark
    rows = [_row(group, table, entry, setups) for entry in cells]
    results = [row[-1].split(" (")[0] for row in rows]
    compared, differing = sum(result != "not compared" for result in results), results.count("differs")
    ours = f"Ours: protocol {about.protocol}: {MEANING[about.protocol]}. " if about.protocol else ""
    used = [quantities[key] for key in table.cells.quantity.unique()]
    least = [f"{quantity.tolerance:g} for {quantity.title}" for quantity in used if not quantity.not_compared]
    caption = (
        f"Published: {table.file.source}, {about.title}: {about.about}. {ours}Mean ± sd (ddof 1) over draws, n draws, "
        "or (k/n) where only k of n have a value. A cell differs where |difference| is above the tolerance, max(2 "
        f"sqrt(sd1² + sd2²), {', '.join(least)}); a spread that is not known counts as 0. Cells compared: {compared}, "
        f"differing: {differing}."
    )
    notes = _notes(group, table, cells, setups)
    return Comparison(Table(f"Against the published {about.title}", caption, HEADER, rows, notes), compared, differing)


def _row(group: Group, table: Published, entry: Any, setups: dict[str, str]) -> list[str]:
    """One published cell beside ours."""
    quantity = table.file.quantities[entry.quantity]
    places = [place for place in group.cells.index if place[0] == entry.row and entry.ratio in (None, place[1])]
    places = [place for place in places if group.cells.finished[place] or group.cells.states[place]]
    runs = [run for place in places for run in group.finished(*place)]
    values = pd.Series([_value(run, table, quantity) for run in runs], dtype=float).dropna()
    printed = f"{entry.mean:g}" if quantity.value.startswith("cost.") else number(entry.mean)
    printed += "" if math.isnan(entry.sd) else f" ± {number(entry.sd)}"
    row = [group.display(entry.row), DASH if entry.ratio is None else f"{entry.ratio} %", quantity.title, printed]
    devices = {run.record["environment"].get("device") for run in runs} if quantity.by_device else set()
    if values.empty or len(devices) > 1:
        states = sorted({state for place in places for state in group.cells.states[place]})
        why = "our runs have no such value" if runs else "nothing measured" + f": {', '.join(states)}" * bool(states)
        why = f"{len(devices)} devices" if len(devices) > 1 else why
        return [*row, *DASH * 4, f"not compared ({why})"]
    expected = int(group.cells.expected[places].sum())
    ours, spread = round(values.mean(), 2), 0.0 if len(values) < 2 else round(values.std(), 2)
    difference = round(ours - entry.mean, 2)
    row.append(cell({"mean": values.mean(), "sd": values.std(), "n": len(values), "expected": expected}))
    row.append(signed(difference))
    mark = _setup(table, runs, setups)
    if entry.row in table.about.copied or quantity.not_compared:
        why = "copied" if entry.row in table.about.copied else "not comparable"
        return [*row, DASH, mark, f"not compared ({why})"]
    theirs = 0.0 if math.isnan(entry.sd) else entry.sd
    tolerance = round(max(2 * math.hypot(spread, theirs), quantity.tolerance or 0.0), 2)
    result = "differs" if abs(difference) > tolerance else "agrees"
    if len(values) < expected:
        result += f" (incomplete: {len(values)} of {expected} draws)"
    return [*row, number(tolerance), mark, result]


def _value(run: Run, table: Published, quantity: Quantity) -> float | None:
    """A finished run's value in the printed unit."""
    kind, key = quantity.value.split(".", 1)
    value = run.scores[table.about.protocol or ""].get(key) if kind == "scores" else run.record["cost"].get(key)
    return None if value is None else quantity.factor * value


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


def kind_of_pair(dice: float, jaccard: float, sd: float = 0.0) -> str:
    """What a published Dice and Jaccard in percent can be, given that they are rounded to two decimals.

    Counts of one class, pooled, have D = 2 J / (1 + J). That is a concave function of J, so a mean over images, classes
    or draws has a lower Dice, and none has a higher one. sd: of Jaccard over draws, whose mean lowers Dice by up to
    about 2 sd^2 / (1 + J)^3.

    Returns `pooled`, `means` or `impossible`.
    """
    half, overlap = 0.005, jaccard / 100
    low, high = (200 * (jaccard + end) / (100 + jaccard + end) for end in (-half, half))
    if dice - half > high:
        return "impossible"
    return "pooled" if dice + half >= low - 100 * 2 * (sd / 100) ** 2 / (1 + overlap) ** 3 else "means"


def pairs(cells: pd.DataFrame) -> dict[str, list[str]]:
    """The rows of a published table that print both Dice and Jaccard, by what their pair can be."""
    found: dict[str, list[str]] = {}
    for place, both in cells[cells.quantity.isin(("dice", "jaccard"))].groupby(PLACE, sort=False, dropna=False):
        known = both.set_index("quantity")
        if {"dice", "jaccard"} <= {*known.index}:
            sd = known.sd["jaccard"]
            kind = kind_of_pair(known["mean"]["dice"], known["mean"]["jaccard"], 0.0 if math.isnan(sd) else sd)
            ratio = "" if pd.isna(place[2]) else f"{place[2]} %"
            found.setdefault(kind, []).append(" ".join(filter(None, (*place[:2], ratio))))
    return found


def _notes(group: Group, table: Published, cells: Sequence[Any], setups: dict[str, str]) -> list[str]:
    about, quantities = table.about, table.file.quantities
    reasons = {group.display(entry.row): about.copied.get(entry.row, "") for entry in cells}
    reasons |= {quantities[entry.quantity].title: quantities[entry.quantity].not_compared for entry in cells}
    notes = [f"Set-up {mark}: {what}." for what, mark in setups.items()]
    notes += [f"{name} is not compared: {reason}." for name, reason in reasons.items() if reason]
    found = pairs(table.cells)
    if found:
        told = [f"{len(found.get(kind, []))} {what}" + f" ({', '.join(found.get(kind, []))})" * (kind != "pooled")
                for kind, what in PAIRS.items() if kind in found]  # fmt: skip
        notes.append(f"Published pairs of Dice and Jaccard: {'; '.join(told)}.")
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
