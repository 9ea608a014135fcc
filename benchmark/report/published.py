"""Numbers that a publication prints, as configs/paper keeps them: cells in CSV, and what is known of them in YAML."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.config import yaml_files
from benchmark.errors import UserError, suggest
from benchmark.paths import CONFIGS
from benchmark.protocols import PROTOCOLS

FOLDER = CONFIGS / "paper"
INDEX = {"source", "setup", "unpublished", "quantities", "tables"}
TABLE = {"title", "about", "protocol", "copied", "notes"}
QUANTITY = {"title", "value", "factor", "tolerance", "not_judged", "by_device"}
PLACE = ("dataset", "row", "ratio")


@dataclass(frozen=True)
class Quantity:
    """What is compared: `value` is scores.<metric> or cost.<key> of a run, times `factor` in the printed unit.

    tolerance: the least difference that counts, in the printed unit. not_judged: why no difference counts, or empty.
    by_device: whether it depends on the device, so that values of several cannot be averaged.
    """

    name: str
    title: str
    value: str
    factor: float
    tolerance: float
    not_judged: str
    by_device: bool


@dataclass(frozen=True)
class Cell:
    """A printed number: of which data set and label ratio (None: not said), row and quantity; sd None: not printed."""

    dataset: str | None
    row: str
    ratio: int | None
    quantity: Quantity
    mean: float
    sd: float | None
    note: str


@dataclass(frozen=True)
class Published:
    """A published table.

    protocol: the view on our counts that it is compared with; None where it holds no scores. setup: what it is called
    -> our settings, as published. copied: row -> why its numbers are not the publication's own.
    """

    name: str
    title: str
    about: str
    source: str
    protocol: str | None
    setup: Mapping[str, Mapping[str, Any]]
    unpublished: str
    copied: Mapping[str, str]
    notes: Sequence[str]
    cells: tuple[Cell, ...]


def names(folder: Path = FOLDER) -> list[str]:
    """The tables in the folder."""
    return sorted(_known(yaml_files.read(folder / "tables.yaml"), INDEX, folder / "tables.yaml").get("tables", {}))


def read(name: str, folder: Path = FOLDER) -> Published:
    """The table called `name`; UserError with file, line and cause where there is none, or its files are wrong."""
    path = folder / "tables.yaml"
    index, known = yaml_files.read(path), names(folder)
    if name not in known:
        raise UserError(f"{path}: unknown table '{name}'.{suggest(name, known)} Known: {', '.join(known)}.")
    where = f"{path}, {name}"
    table = _known(index["tables"][name], TABLE, where)
    protocol = table.get("protocol")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"{where}: unknown protocol '{protocol}': known are {', '.join(PROTOCOLS)}.")
    quantities = {key: _quantity(key, entry, path) for key, entry in index.get("quantities", {}).items()}
    cells = tuple(_cells(folder / f"{name}.csv", quantities))
    if protocol is None and any(cell.quantity.value.startswith("scores.") for cell in cells):
        raise UserError(f"{where}: it holds scores, and no protocol says which of ours they are compared with")
    copied = table.get("copied", {})
    strangers = sorted(set(copied) - {cell.row for cell in cells})
    if strangers:
        raise UserError(f"{where}: copied names rows that {name}.csv does not have: {', '.join(strangers)}")
    return Published(
        name, str(table.get("title", name)), str(table.get("about", "")), str(index.get("source", "")), protocol,
        index.get("setup", {}), str(index.get("unpublished", "")), copied, tuple(table.get("notes", ())), cells,
    )


def _quantity(name: str, entry: Any, path: Path) -> Quantity:
    where = f"{path}, quantity {name}"
    _known(entry, QUANTITY, where)
    value = str(entry.get("value", ""))
    if not value.startswith(("scores.", "cost.")):
        raise UserError(f"{where}: value must be scores.<metric> or cost.<key>, not '{value}'")
    reason = str(entry.get("not_judged", ""))
    if not reason and "tolerance" not in entry:
        raise UserError(f"{where}: needs a tolerance, or not_judged with the reason")
    factor, tolerance = (_number(str(entry.get(*default)), where) for default in (("factor", 1), ("tolerance", 0)))
    return Quantity(name, str(entry.get("title", name)), value, factor, tolerance, reason, bool(entry.get("by_device")))


def _cells(path: Path, quantities: Mapping[str, Quantity]) -> Iterator[Cell]:
    """The cells of a CSV file, in its order; every row of it by quantity."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    header = lines[0] if lines else []
    mine = [name for name in quantities if name in header]
    columns = {*PLACE, *mine, *(f"{name}_{what}" for name in mine for what in ("sd", "note"))}
    wrong = [name for name in header if name not in columns]
    if wrong or len(set(header)) < len(header) or "row" not in header or not mine:
        cause = f"unknown column '{wrong[0]}'" if wrong else "needs a column 'row', one a quantity, and none twice"
        raise UserError(f"{path}, line 1: {cause}. Quantities: {', '.join(quantities)}.")
    seen: dict[tuple[str, ...], int] = {}
    for line, values in enumerate(lines[1:], 2):
        where = f"{path}, line {line}"
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values under {len(header)} columns")
        row = dict(zip(header, values, strict=True))
        place = tuple(row.get(key, "") for key in PLACE)
        if place in seen:
            raise UserError(f"{where}: the same dataset, row and ratio as in line {seen[place]}")
        seen[place] = line
        for name in mine:
            if row[name]:
                yield _cell(row, quantities[name], where)


def _cell(row: Mapping[str, str], quantity: Quantity, where: str) -> Cell:
    mean = _number(row[quantity.name], where)
    deviation = row.get(f"{quantity.name}_sd")
    sd = _number(deviation, where) if deviation else None
    if "%" in quantity.title and not 0 <= mean <= 100:
        raise UserError(f"{where}: {quantity.name} {mean} is no percentage")
    if sd is not None and sd < 0:
        raise UserError(f"{where}: {quantity.name}_sd {sd} is negative")
    ratio = row.get("ratio")
    if ratio and not ratio.isdecimal():
        raise UserError(f"{where}: ratio '{ratio}' is no whole percentage")
    note = row.get(f"{quantity.name}_note", "")
    return Cell(row.get("dataset") or None, row["row"], int(ratio) if ratio else None, quantity, mean, sd, note)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: '{text}' is no number")
    return value


def _known(entry: Any, keys: set[str], where: Any) -> dict[str, Any]:
    """The mapping, if it is one with no key but these."""
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected 'key: value' entries, not {entry!r}")
    for key in entry:
        if key not in keys:
            raise UserError(f"{where}: unknown key '{key}'.{suggest(str(key), keys)} Known: {', '.join(sorted(keys))}.")
    return entry
