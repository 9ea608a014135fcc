"""A run to diagnose, and the one that it is compared with: of the same draw, without unlabelled images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.protocols import NO_VALIDATION, over_steps
from benchmark.registry import METHODS
from benchmark.report.results_frame import Run
from benchmark.runs.run_files import read_counts, read_record, record_files

SAME = ("dataset", "split", "ratio", "fold", "seed")  # what the two runs share


def read_run(path: Path) -> Run:
    """The run of a record; UserError where it did not end well, or has no validation images."""
    record = read_record(path)
    if record["status"] != "done":
        raise UserError(f"{path.stem} is {record['status']} ({record['reason']}); only a finished run can be diagnosed")
    run = Run(record, read_counts(path, record))
    if over_steps(run.counts, "validation") is None:
        raise UserError(f"{path.stem}: {NO_VALIDATION}, and a run is diagnosed by them alone; give a run at a lower "
                        "ratio")
    return run


def plain_run(run: Run, folder: Path) -> Run | None:
    """The finished run of the same draw that uses labelled images alone: of several the one whose settings are nearest,
    then the smallest."""
    found = []
    for path in record_files(folder):
        with contextlib.suppress(UserError):  # a damaged record, or a method that is not here any more
            record = read_record(path)
            if record["status"] == "done" and not why_not(record, run):
                other = read_run(path)
                found.append((len(other_settings(other, run)), record["cost"]["parameters_trained"], path, other))
    return min(found)[3] if found else None


def learns_from_unlabelled(record: Mapping[str, Any]) -> bool:
    return "unlabelled" in METHODS.load(record["spec"]["method"]).views


def why_not(record: Mapping[str, Any], run: Run) -> str:
    """Why the run of a record is no bound for another; empty where it is one."""
    if differ := [key for key in SAME if record["spec"][key] != run.spec[key]]:
        return f"has another {differ[0]} than {run.record['run_id']}"
    if record["data"].get("fingerprint") != run.record["data"].get("fingerprint"):
        return f"was made from other images than {run.record['run_id']}"
    return "learns from unlabelled images itself" if learns_from_unlabelled(record) else ""


def other_settings(one: Run, other: Run) -> list[str]:
    """Which settings differ, those of the methods aside."""
    a, b = one.spec["values"], other.spec["values"]
    return sorted(key for key in a | b if not key.startswith("method.") and a.get(key) != b.get(key))
