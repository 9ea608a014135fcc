"""Who is at which run of a results folder, how far, and when it will be done."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.run_lock import PATIENCE, look, progress


@dataclass(frozen=True)
class Running:
    """A run that somebody is at: holder, steps done and in all, seconds a step, seconds left, seconds of silence."""

    run_id: str
    host: str
    process: int
    step: int | None
    steps: int | None
    seconds_per_step: float | None
    seconds_left: float | None
    silent_seconds: float
    seems_dead: bool  # silent for longer than the living are

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def running(results: Path) -> list[Running]:
    """All runs of a results folder that are claimed, by their names; those of dead processes of this machine are not.

    Silence is told by the clock of the file system, which all machines share.
    """
    found, now = [], None
    for claim in sorted((results / "runs").glob("*/claim")):
        try:
            sight = look(claim)
        except (UserError, OSError):  # who wants this run is told
            continue
        if sight is None or sight.holder.is_gone:
            continue
        now = _file_time(results) if now is None else now
        said = progress(claim, sight.holder)
        step, steps, pace = (said.get(key) for key in ("step", "steps", "seconds_per_step"))
        left = (steps - step) * pace if step is not None and steps is not None and pace is not None else None
        silent = max(0.0, now - sight.touched / 1e9)
        found.append(Running(
            claim.parent.name, sight.holder.host, sight.holder.process, step, steps, pace, left, silent,
            not sight.holder.is_here and silent > PATIENCE * sight.holder.beat,
        ))
    return found


def _file_time(folder: Path) -> float:
    """What time it is for the file system of `folder`; by our own clock where nothing may be written there."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock.") as stream:
            os.utime(stream.name)
            return os.stat(stream.name).st_mtime
    except OSError:
        return time.time()
