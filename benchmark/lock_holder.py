"""Who has a claim: a process of a machine, told by the name of the claim's file."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

FREE = "free"
BEAT = 10.0  # seconds between two signs of life; SEMIHISTO_BEAT says otherwise


@dataclass(frozen=True)
class Holder:
    """Who has a claim: what its file is called."""

    host: str
    machine: str  # this boot of this system, and this set of process ids in it; empty where that is unknown
    process: int
    started: int  # the process's start, in clock ticks since the boot: process ids come back
    beat: float
    token: str  # no two claims are called the same

    @property
    def name(self) -> str:
        return ",".join(map(str, (self.host, self.machine, self.process, self.started, f"{self.beat:g}", self.token)))

    @staticmethod
    def parse(name: str) -> Holder | None:
        """The holder that a file's name tells; None for a free claim; ValueError for another file."""
        if name == FREE:
            return None
        host, machine, process, started, beat, token = name.split(",")
        return Holder(host, machine, int(process), int(started), float(beat), token)

    @staticmethod
    def me() -> Holder:
        """This process, about to claim something."""
        beat = float(os.environ.get("SEMIHISTO_BEAT") or BEAT)
        host = os.uname().nodename.replace(",", "_")[:100]
        return Holder(host, machine(), os.getpid(), started(os.getpid()) or 0, beat, secrets.token_hex(4))

    @property
    def is_gone(self) -> bool:
        """Whether this machine's process table says that the holder has ended; False where it cannot know."""
        return bool(self.machine) and self.machine == machine() and started(self.process) != self.started

    @property
    def is_here(self) -> bool:
        """Whether the holder is a living process of this machine."""
        return bool(self.machine) and self.machine == machine() and not self.is_gone

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


def machine() -> str:
    """Names this boot of the system and the process ids that are valid in it; empty where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def started(process: int) -> int | None:
    """When a process of this machine was started, in clock ticks since the boot; None where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
