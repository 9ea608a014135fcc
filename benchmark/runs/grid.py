"""The plan of an experiment: every cell's specification, and how far its run is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmark.data.dataset import Dataset
from benchmark.data.splits import Split
from benchmark.errors import UserError, suggest
from benchmark.run_lock import look
from benchmark.runs.compile_record import staleness
from benchmark.runs.experiment import Cell, Experiment
from benchmark.runs.folder import claim_of
from benchmark.runs.records import digest, read_record
from benchmark.runs.request import ResolvedRun, Specifier
from benchmark.spec import Spec
from benchmark.training.code_versions import code_versions
from benchmark.training.setup import build_method

BUILT_FROM = re.compile(r"(method|net)\.|data\.size$|train\.(loss|forward|batch_\w+)$")  # settings of a method's object
STATES = ("done", "running", "skipped", "diverged", "failed", "stale", "excluded", "missing")


@dataclass(frozen=True)
class Planned:
    """A cell, what its run would be, its state, and the record that says so where there is one."""

    cell: Cell
    spec: Spec
    split: Split
    dataset: Dataset
    state: str
    record: Mapping[str, Any] | None = None


def plan(
    experiment: Experiment, results: Path, device_kind: str, only: Mapping[str, str] | None = None,
    shard: tuple[int, int] = (1, 1),
) -> list[Planned]:
    """The cells of `experiment` whose row, method, dataset, ratio and draw are those of `only`; of `shard` (i, n), the
    i-th, the n-th after it, and so on.

    UserError for a mistake in a cell, with file and line, and for two cells that are one run.
    """
    specifier, versions = Specifier(device_kind), cache(code_versions)
    entries: dict[str, tuple[Cell, ResolvedRun]] = {}
    for cell in chosen(experiment.cells, only or {}):
        try:
            run = specifier.specify(cell.request)
        except UserError as error:
            raise UserError(f"{cell.where}: {error}") from None
        if run.spec.run_id in entries:
            raise UserError(f"{cell.where}: '{cell.row}' is the same run as '{entries[run.spec.run_id][0].row}'")
        entries[run.spec.run_id] = cell, run
    planned = []
    for cell, run in list(entries.values())[shard[0] - 1 :: shard[1]]:
        state, record = "excluded", None
        if not cell.reason:
            state, record = state_of(run.spec, run.split, results, versions(run.spec.method, run.dataset))
        planned.append(Planned(cell, run.spec, run.split, run.dataset, state, record))
    return planned


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


def state_of(
    spec: Spec, split: Split, results: Path, versions: dict[str, int | str]
) -> tuple[str, dict[str, Any] | None]:
    """What the results folder says of a run, and its record; `versions`: of the code that would run it now."""
    path = results / "records" / f"{spec.run_id}.json"
    if path.exists():
        record = read_record(path)
        return "stale" if staleness(record, versions, split) else record["status"], record
    try:
        sight = look(claim_of(results, spec.run_id))
    except (UserError, OSError):  # one claim that cannot be read costs its own run, whose worker says why
        sight = None
    return "missing" if sight is None or sight.holder.is_gone else "running", None


def planned_digest(results: Path, entry: Planned) -> str:
    """The digest of the record that the plan saw: empty where there was none, no record's where it changed since."""
    if entry.record is None:
        return ""
    path = results / "records" / f"{entry.spec.run_id}.json"
    found = digest(path)  # before it is read: a record that is replaced in between is not taken for the old one
    return found if found and read_record(path) == entry.record else "another"


def check_hyperparameters(planned: Iterable[Planned]) -> None:
    """Build the method of every different specification, without memory; UserError with file and line for a mistake."""
    seen = set()
    for entry in planned:
        spec, split = entry.spec, entry.split
        built_from = [value for key, value in sorted(spec.values.items()) if BUILT_FROM.match(key)]
        classes = len(entry.dataset.classes)
        if (key := (spec.method, classes, repr(built_from))) in seen:
            continue
        seen.add(key)
        sizes = len(split.labelled), len(split.unlabelled), len(split.labelled) + len(split.unlabelled)
        try:
            with torch.device("meta"):
                build_method(spec, sizes, classes)
        except UserError as error:
            raise UserError(f"{entry.cell.where}: {error}") from None
        except Exception:  # a method that cannot be built without memory, or declines, is left to its run
            continue


def count(planned: Iterable[Planned]) -> dict[str, int]:
    """How many cells are in each state; states without any are left out."""
    found = Counter(entry.state for entry in planned)
    return {state: found[state] for state in STATES if found[state]}
