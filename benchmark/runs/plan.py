"""How far runs are: the plan of an experiment, what is running or was interrupted, and how long the rest will take."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmark.data.dataset import Dataset
from benchmark.data.splits import Split
from benchmark.errors import UserError, suggest
from benchmark.runs.experiment import Cell, Experiment, Only
from benchmark.runs.lock import read_lock
from benchmark.runs.request import ResolvedRun, Specifier
from benchmark.runs.run_files import device_label, read_with_digest, record_of, staleness
from benchmark.spec import Spec
from benchmark.training.setup import build_method, code_versions

BUILDS = 32  # rows whose method is built to check its settings
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
    datasets: Mapping[str, tuple[Dataset, str]] = field(default_factory=dict)  # all that the run needs, and its splits


def plan(
    experiment: Experiment, results: Path, device_kind: str, only: Only | None = None,
    shard: tuple[int, int] = (1, 1), fingerprint_of: Callable[[Dataset, str], str | None] = lambda *_: None,
) -> list[Planned]:
    """The cells of `experiment` that `only` lets through; of `shard` (i, n), the i-th, the n-th after it, and so on.

    fingerprint_of: what a data set's images are now that a split's lists are of; asked once for each that has records.

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
    planned, running = [], {entry["run_id"] for entry in running_runs(results)}
    for cell, run in list(entries.values())[shard[0] - 1 :: shard[1]]:
        state, record, digest = "excluded", None, ""
        path = record_of(results, run.spec.run_id)
        if not cell.reason and path.exists():
            record, digest = read_with_digest(path)
            now = versions(run.spec.method, run.dataset)
            images = {key: fingerprint_of(*each) for key, each in run.datasets.items()}
            stale = staleness(record, now, run.lists, images)
            state = "stale" if stale else record["status"]
        elif not cell.reason:
            state = "running" if run.spec.run_id in running else "missing"
        planned.append(Planned(cell, run.spec, run.split, run.dataset, state, record, digest, run.datasets))
    return planned


def chosen(cells: Sequence[Cell], only: Only) -> list[Cell]:
    """The cells that `only` lets through; UserError where there is none."""
    places = [cell.place for cell in cells]
    for key, values in only.items():
        if key not in places[0]:
            raise UserError(f"--only {key}=...: known are {', '.join(places[0])}.{suggest(key, places[0])}")
        known = sorted({place[key] for place in places})
        for value in values:
            if value not in known:
                raise UserError(f"--only {key}={value}: there is {', '.join(known)}.{suggest(value, known)}")
    found = [cell for cell, place in zip(cells, places, strict=True)
             if all(place[key] in values for key, values in only.items())]  # fmt: skip
    if not found:
        asked = ", ".join(f"{key}={' or '.join(values)}" for key, values in only.items())
        raise UserError(f"--only {asked}: no run has all of these")
    return found


def check_hyperparameters(planned: Iterable[Planned]) -> None:
    """Build the method of each of the first BUILDS rows, without memory; UserError with file and line for a mistake.

    Names, types and ranges have been checked for every run by now. Building finds settings that do not go together, and
    takes a while.
    """
    for entry, *_ in islice(by_row(planned).values(), BUILDS):
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


def estimate(planned: Iterable[Planned], missing: Sequence[Planned]) -> tuple[float, str] | None:
    """Seconds for all of `missing`, one after the other, and the device that was timed; None where no run is done.

    Each takes the median of the finished runs of its row in `planned`, else of all rows.
    """
    times: dict[str, list[float]] = defaultdict(list)
    devices = []
    for entry in planned:
        record = entry.record or {}
        if record.get("status") == "done" and "wall_seconds" in record["cost"]:
            times[entry.cell.row].append(record["cost"]["wall_seconds"])
            devices.append(str(record["environment"].get("device")))
    if not times:
        return None
    by_row = {row: median(seconds) for row, seconds in times.items()}
    others = median(by_row.values())
    return sum(by_row.get(entry.cell.row, others) for entry in missing), max(sorted(set(devices)), key=devices.count)


def mixed_lists(planned: Iterable[Planned], chosen: Sequence[Planned], here: Mapping[str, Any]) -> list[str]:
    """The labelled lists whose runs would be made on several models of processor, a line each: a table compares them.

    chosen: what would be run now. here: this machine's `environment`, as records have it.
    """
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    now = set(map(id, chosen))
    for entry in planned:
        place = f"{entry.spec.dataset}, {entry.spec.split}, {entry.spec.ratio} % draw {entry.spec.fold}"
        if id(entry) in now:
            found[place].append(here)
        elif entry.record is not None and entry.record["status"] == "done":
            found[place].append(entry.record["environment"])
    mixed = []
    for place, environments in found.items():
        brands = {environment["device"] for environment in environments}
        models = {device_label(each) for each in environments if each.get("processor")}  # an old record has none
        if len(brands) > 1 or len(models) > 1:
            mixed.append(f"{place}: {'; '.join(sorted({device_label(each) for each in environments}))}")
    return mixed


def running_runs(results: Path) -> list[dict[str, Any]]:
    """All runs that are locked, in order of their names, but for those of dead processes of this machine.

    Of each: run_id, host, process, and where they are known step, steps, seconds_per_step and seconds_left; of another
    machine's the seconds since its last heartbeat, silent_seconds.
    """
    found = []
    for lock in sorted((results / "runs").glob("*/lock")):
        try:
            status = read_lock(lock)
        except (UserError, OSError):  # whoever wants to lock it gets the message
            continue
        if status is None or status.holder.alive is False:
            continue
        run: dict[str, Any] = {key: status.progress.get(key) for key in ("step", "steps", "seconds_per_step")}
        left = None if None in run.values() else (run["steps"] - run["step"]) * run["seconds_per_step"]
        found.append(run | {
            "run_id": lock.parent.name, "host": status.holder.host, "process": status.holder.pid, "seconds_left": left,
            "silent_seconds": 0.0 if status.holder.alive else status.silent_seconds,
        })
    return found


def interrupted_runs(results: Path, others: Collection[str] = ()) -> dict[str, int | None]:
    """Runs with a checkpoint, other than `others` (recorded, or running), and the last step in their log."""
    found: dict[str, int | None] = {}
    for path in sorted((results / "runs").glob("*/checkpoint.pt")):
        if path.parent.name not in others:
            found[path.parent.name] = None
            with contextlib.suppress(OSError, ValueError, IndexError, KeyError, TypeError):
                last = path.with_name("log.jsonl").read_text(encoding="utf-8").splitlines()[-1]
                found[path.parent.name] = int(json.loads(last)["step"])
    return found
