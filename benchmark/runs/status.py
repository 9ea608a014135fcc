"""Which runs of a results folder are being worked on, how far they are, and which were interrupted."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.runs.lock import read_lock


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
    return {
        path.parent.name: _last_step(path.with_name("log.jsonl"))
        for path in sorted((results / "runs").glob("*/checkpoint.pt")) if path.parent.name not in others
    }


def _last_step(log: Path) -> int | None:
    try:
        return int(json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"])
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return None
