"""Settings that cost the machine have an upper bound from the machine, checked before anything is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from benchmark.errors import UserError

THREADS_A_CORE = 16
EVALUATIONS = 10_000
GIB = 2**30


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_machine(values: Mapping[str, Any]) -> None:
    """UserError where settings (dotted key -> value) ask for more than this machine can give."""
    most = THREADS_A_CORE * cores()
    if values["train.threads"] > most:
        raise UserError(f"train.threads={values['train.threads']}: this machine has {cores()} cores; at most {most} "
                        "threads may be started")
    if values["evaluate.times"] > EVALUATIONS:
        raise UserError(f"evaluate.times={values['evaluate.times']}: at most {EVALUATIONS}")
    for key in ("train.batch_labelled", "train.batch_unlabelled", "evaluate.batch"):
        size = values[key] * values["data.size"] ** 2 * 3 * 4  # of its images alone, in float32
        if size > memory():
            raise UserError(f"{key}={values[key]}: its images of {values['data.size']} px take {size / GIB:,.0f} GiB, "
                            f"this machine has {memory() / GIB:.0f}")


def check_processes(number: int, option: str) -> None:
    """UserError where more processes are asked for than this machine should start."""
    most = THREADS_A_CORE * cores()
    if number > most:
        raise UserError(f"{option} {number}: this machine has {cores()} cores; at most {most} processes may be started")
