"""This machine: its processor, cores and memory, and whether settings ask for more than it has."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from benchmark.errors import UserError

THREADS_A_CORE = 16
GIB = 2**30
VECTOR_FLAG = re.compile("s?sse|fma|f16c|avx|amx|neon|asimd|sve")  # of /proc/cpuinfo: they may change the last bits


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_machine(values: Mapping[str, Any]) -> None:
    """UserError where settings (dotted key -> value) ask for more than this machine can give."""
    check_cores("train.threads=", values["train.threads"], "threads")
    for key in ("train.batch_labelled", "train.batch_unlabelled", "evaluate.batch"):
        size = values[key] * values["data.size"] ** 2 * 3 * 4  # of its images alone, in float32
        if size > memory():
            raise UserError(f"{key}={values[key]}: its images of {values['data.size']} px take {size / GIB:,.0f} GiB, "
                            f"this machine has {memory() / GIB:.0f}")


def check_cores(option: str, number: int, what: str) -> None:
    """UserError where more threads or processes are asked for than this machine should start."""
    most = THREADS_A_CORE * cores()
    if number > most:
        raise UserError(f"{option}{number}: this machine has {cores()} cores; at most {most} {what} may be started")


def processor() -> dict[str, Any]:
    """Brand, vendor, family, model, stepping and vector instructions of this machine's processor, where it says so."""
    said: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for key, colon, value in (line.partition(":") for line in takewhile(str.strip, lines)):
            said[key.strip()] = value.strip() if colon else ""
    flags = said.get("flags", said.get("Features", "")).split()
    return {
        "brand": said.get("model name") or platform.processor() or platform.machine(),
        "vendor": said.get("vendor_id", said.get("CPU implementer")),
        "family": said.get("cpu family", said.get("CPU architecture")),
        "model": said.get("model", said.get("CPU part")),
        "stepping": said.get("stepping", said.get("CPU revision")),
        "vector_flags": sorted(flag for flag in flags if VECTOR_FLAG.match(flag)),
    }
