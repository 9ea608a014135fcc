"""Which runs of a results folder are being worked on, how far they are, and which were interrupted."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.runs.lock import HEARTBEAT_TIMEOUT, read_lock


@dataclass(frozen=True)
class RunningRun:
    """A run that a process has locked: who, steps done and in all, seconds a step, seconds left and without a sign."""

    run_id: str
    host: str
    process: int
    step: int | None
    steps: int | None
    seconds_per_step: float | None
    seconds_left: float | None
    silent_seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def silent(self) -> bool:
        """Whether its heartbeat is overdue; whether it is dead is decided by who wants to take it over."""
        return self.silent_seconds > HEARTBEAT_TIMEOUT


def running_runs(results: Path) -> list[RunningRun]:
    """All runs that are locked, in order of their names, but for those of dead processes of this machine."""
    found = []
    for lock in sorted((results / "runs").glob("*/lock")):
        try:
            status = read_lock(lock)
        except (UserError, OSError):  # whoever wants this run is told
            continue
        if status is None or status.holder.alive is False:
            continue
        step, steps, pace = (status.content.get(key) for key in ("step", "steps", "seconds_per_step"))
        left = (steps - step) * pace if step is not None and steps is not None and pace is not None else None
        holder = status.holder
        silent = 0.0 if holder.alive else status.silent_seconds
        found.append(RunningRun(lock.parent.name, holder.host, holder.pid, step, steps, pace, left, silent))
    return found


def interrupted_runs(results: Path, others: Collection[str] = ()) -> dict[str, int | None]:
    """Runs with a checkpoint, other than `others` (recorded, or running), and the last step in their log."""
    return {
        path.parent.name: _last_step(path.with_name("log.jsonl"))
        for path in sorted((results / "runs").glob("*/checkpoint.pt")) if path.parent.name not in others
    }


def _last_step(log: Path) -> int | None:
    try:
        return int(json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None
