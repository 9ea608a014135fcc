"""The plan of an experiment: every cell's specification, and how far its run is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.data.splits import Split
from benchmark.engine.session import build_method
from benchmark.errors import UserError, suggest
from benchmark.runs.compile import check_current
from benchmark.runs.experiment import Cell, Experiment
from benchmark.runs.folder import is_held
from benchmark.runs.records import read_record
from benchmark.runs.request import specify
from benchmark.spec import Spec

STATES = ("done", "running", "skipped", "diverged", "failed", "stale", "excepted", "missing")


@dataclass(frozen=True)
class Planned:
    """A cell, what its run would be, and its state."""

    cell: Cell
    spec: Spec
    split: Split
    state: str


def plan(
    experiment: Experiment, results: Path, device_kind: str, only: Mapping[str, str] | None = None
) -> list[Planned]:
    """All cells of `experiment` whose row, method, dataset, ratio and draw are those of `only`.

    UserError for a mistake in a cell, with file and line, and for two cells that are one run.
    """
    planned: dict[str, Planned] = {}
    for cell in chosen(experiment.cells, only or {}):
        try:
            spec, split = specify(cell.request, device_kind)
        except UserError as error:
            raise UserError(f"{cell.where}: {error}") from None
        if spec.run_id in planned:
            raise UserError(f"{cell.where}: '{cell.row}' is the same run as '{planned[spec.run_id].cell.row}'")
        state = "excepted" if cell.reason else state_of(spec, split, results)
        planned[spec.run_id] = Planned(cell, spec, split, state)
    return list(planned.values())


def chosen(cells: Sequence[Cell], only: Mapping[str, str]) -> Iterable[Cell]:
    """The cells that `only` (row, method, dataset, ratio or draw -> value) lets through; UserError where none does."""
    places = [
        {"row": c.row, "method": c.request.method, "dataset": c.request.dataset, "ratio": str(c.request.ratio),
         "draw": str(c.request.fold)}
        for c in cells
    ]
    for key, value in only.items():
        if key not in places[0]:
            raise UserError(f"--only {key}=...: known are {', '.join(places[0])}.{suggest(key, places[0])}")
        values = sorted({place[key] for place in places})
        if value not in values:
            raise UserError(f"--only {key}={value}: there is {', '.join(values)}.{suggest(value, values)}")
    found = [cell for cell, place in zip(cells, places, strict=True) if only.items() <= place.items()]
    if not found:
        wanted = ", ".join(f"{key}={value}" for key, value in only.items())
        raise UserError(f"--only {wanted}: no cell has all of these")
    return found


def state_of(spec: Spec, split: Split, results: Path) -> str:
    """What the results folder says of a run."""
    path = results / "records" / f"{spec.run_id}.json"
    if path.exists():
        record = read_record(path)
        try:
            check_current(record, spec, split)
        except UserError:
            return "stale"
        return str(record["status"])
    return "running" if is_held(results / "runs" / spec.run_id) else "missing"


def check_hyperparameters(planned: Iterable[Planned]) -> None:
    """Build the method of every different specification, without memory; UserError with file and line for a mistake."""
    seen = set()
    for entry in planned:
        key = json.dumps([entry.spec.method, entry.spec.to_json()["values"]], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        split = entry.split
        sizes = len(split.labelled), len(split.unlabelled), len(split.labelled) + len(split.unlabelled)
        try:
            with torch.device("meta"):
                build_method(entry.spec, sizes, 2)
        except UserError as error:
            raise UserError(f"{entry.cell.where}: {error}") from None
        except Exception:  # a method that cannot be built without memory, or declines, is left to its run
            continue


def count(planned: Iterable[Planned]) -> dict[str, int]:
    """How many cells are in each state; states without any are left out."""
    found = Counter(entry.state for entry in planned)
    return {state: found[state] for state in STATES if found[state]}
