"""The plan of an experiment: the specification of each of its runs, and how far it is."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import torch

from benchmark.data.dataset import Dataset
from benchmark.data.splits import Split
from benchmark.errors import UserError, suggest
from benchmark.runs.experiment import Cell, Experiment
from benchmark.runs.folder import lock_of
from benchmark.runs.lock import read_lock
from benchmark.runs.records import read_with_digest, staleness
from benchmark.runs.request import ResolvedRun, Specifier
from benchmark.spec import Spec
from benchmark.training.code_versions import code_versions
from benchmark.training.setup import build_method

BUILT_FROM = re.compile(r"(method|net)\.|data\.size$|train\.(loss|batch_\w+)$")  # settings of a method's object
BUILDS = 32  # methods that are built to check their settings
STATES = ("done", "running", "skipped", "diverged", "failed", "stale", "excluded", "missing")


@dataclass(frozen=True)
class Planned:
    """A cell of the table, what its run would be, its state, and the record that says so, with its digest."""

    cell: Cell
    spec: Spec
    split: Split
    dataset: Dataset
    state: str
    record: Mapping[str, Any] | None = None
    digest: str = ""


def plan(
    experiment: Experiment, results: Path, device_kind: str, only: Mapping[str, str] | None = None,
    shard: tuple[int, int] = (1, 1), fingerprint_of: Callable[[Dataset], str | None] = lambda _: None,
) -> list[Planned]:
    """The cells of `experiment` whose row, method, dataset, ratio and draw are those of `only`; of `shard` (i, n), the
    i-th, the n-th after it, and so on. fingerprint_of: what a data set's images are now; asked once for each that has
    records.

    UserError for a mistake in a cell, with file and line, and for two cells that are one run.
    """
    specifier, versions, fingerprint_of = Specifier(device_kind), cache(code_versions), cache(fingerprint_of)
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
        state, record, digest = "excluded", None, ""
        if not cell.reason:
            state, record, digest = state_of(run, results, versions(run.spec.method, run.dataset), fingerprint_of)
        planned.append(Planned(cell, run.spec, run.split, run.dataset, state, record, digest))
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
        raise UserError(f"--only {wanted}: no run has all of these")
    return found


def state_of(
    run: ResolvedRun, results: Path, versions: dict[str, int | str],
    fingerprint_of: Callable[[Dataset], str | None] = lambda _: None,
) -> tuple[str, dict[str, Any] | None, str]:
    """What the results folder says of a run, its record and that one's digest; `versions`: of the code of today."""
    path = results / "records" / f"{run.spec.run_id}.json"
    if path.exists():
        record, digest = read_with_digest(path)
        stale = staleness(record, versions, run.split, fingerprint_of(run.dataset))
        return "stale" if stale else record["status"], record, digest
    try:
        status = read_lock(lock_of(results, run.spec.run_id))
    except (UserError, OSError):  # a lock that cannot be read costs its own run, whose process says why
        status = None
    return "missing" if status is None or status.holder.alive is False else "running", None, ""


def check_hyperparameters(planned: Iterable[Planned]) -> None:
    """Build the methods of the plan, without memory; UserError with file and line for a mistake.

    Names, types and ranges have been checked for every run by now. Building finds settings that do not go together, and
    takes a while: it is done for at most BUILDS different settings, those of as many methods as possible.
    """
    different: dict[str, dict[Any, Planned]] = defaultdict(dict)
    for entry in planned:
        built_from = [(key, value) for key, value in sorted(entry.spec.values.items()) if BUILT_FROM.match(key)]
        different[entry.spec.method].setdefault((len(entry.dataset.classes), repr(built_from)), entry)
    in_turn = chain.from_iterable(zip_longest(*(entries.values() for entries in different.values())))
    for entry in islice(filter(None, in_turn), BUILDS):
        labelled, unlabelled = len(entry.split.labelled), len(entry.split.unlabelled)
        try:
            with torch.device("meta"):
                build_method(entry.spec, (labelled, unlabelled, labelled + unlabelled), len(entry.dataset.classes))
        except UserError as error:
            raise UserError(f"{entry.cell.where}: {error}") from None
        except Exception:  # a method that cannot be built without memory, or declines, is left to its run
            continue


def count(planned: Iterable[Planned]) -> dict[str, int]:
    """How many cells are in each state; states without any are left out."""
    found = Counter(entry.state for entry in planned)
    return {state: found[state] for state in STATES if found[state]}


def by_row(planned: Iterable[Planned]) -> dict[str, list[Planned]]:
    """The plan row by row."""
    rows: dict[str, list[Planned]] = defaultdict(list)
    for entry in planned:
        rows[entry.cell.row].append(entry)
    return rows
