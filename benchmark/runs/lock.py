"""Run locks: one process at a time works on a run, in a results folder that several machines may share.

A lock is a folder with one file in it, and the file's name says who holds the lock. A lock is made by renaming a whole
folder into place, and a dead holder's is released by removing its file, by that name. The file system lets one process
do either and refuses all others, so a lock never has two holders. The holder rewrites the file every few seconds. A
lock that does not change for HEARTBEAT_TIMEOUT is a dead process's. Only changes count, never times, so clocks may
differ; where the holder is a process of this machine, the process table is asked instead and answers at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import Interrupted, RunLocked, UserError
from benchmark.files import explain, make_folder

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = float(os.environ.get("SEMIHISTO_HEARTBEAT") or 10.0)  # seconds; all in a folder have the same
HEARTBEAT_TIMEOUT = 9 * HEARTBEAT_INTERVAL  # file servers show changes to others up to a minute late
POLL_INTERVAL = 0.2  # seconds between two looks at a lock that is waited for
ATTEMPTS = 50


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock; its fields make the name of the lock's file."""

    host: str
    machine: str  # this boot of the system and its set of process ids; empty where there is no /proc
    pid: int
    started: int  # in clock ticks since the boot, since process ids are used again
    token: str  # different for every lock

    @property
    def name(self) -> str:
        return ",".join(map(str, astuple(self)))

    @staticmethod
    def parse(name: str) -> Holder:
        """The holder that a file's name tells; ValueError for any other file."""
        host, machine, pid, started, token = name.split(",")
        return Holder(host, machine, int(pid), int(started), token)

    @staticmethod
    def me() -> Holder:
        """This process, with a new token."""
        host = os.uname().nodename.replace(",", "_")[:100]
        return Holder(host, _machine(), os.getpid(), _started(os.getpid()) or 0, secrets.token_hex(4))

    @property
    def alive(self) -> bool | None:
        """What this machine's process table says; None where the holder is on another machine, or hidden."""
        if not self.machine or self.machine != _machine():
            return None
        try:
            return _started(self.pid) == self.started
        except PermissionError:
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class LockStatus(NamedTuple):
    """One look at a lock that is held."""

    holder: Holder
    content: bytes  # changes with every heartbeat
    silent_seconds: float  # since the last heartbeat by this machine's clock: to be shown, never to decide by

    @property
    def progress(self) -> dict[str, Any]:
        """What the holder tells of its progress; empty where that cannot be read."""
        with contextlib.suppress(ValueError):  # in the middle of being written
            return dict(json.loads(self.content))
        return {}


def read_lock(folder: Path) -> LockStatus | None:
    """Who holds the lock in `folder`; None where nobody does."""
    for _ in range(ATTEMPTS):
        try:
            names = [name for name in os.listdir(folder) if not name.startswith(".")]
            if not names:
                return None
            holder, file = Holder.parse(names[0]), folder / names[0]
            return LockStatus(holder, file.read_bytes(), max(0.0, time.time() - file.stat().st_mtime))
        except FileNotFoundError:  # no lock, or it changed hands just now
            if not folder.exists():
                return None
        except ValueError:
            raise UserError(f"{folder / names[0]}: not a lock's file; remove it") from None
        except NotADirectoryError as error:
            raise explain(error, folder) from None
    raise RunLocked(f"{folder.parent.name}: the lock of this run keeps changing; try again")


def release(folder: Path, holder: Holder | None) -> None:
    """Give back the lock of this holder, or of nobody: a process that is killed at its end leaves an empty folder.
    Where another process has taken it meanwhile, it stays that one's."""
    with contextlib.suppress(OSError):
        if holder is not None:
            (folder / holder.name).unlink()
        folder.rmdir()


class LockMonitor:
    """Tells living holders from dead ones by looking at their locks again and again."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[Any, float, bool]] = {}  # the last change, when it was seen, whether one came

    def look(self, folder: Path) -> tuple[str, Holder | None]:
        """`free`, `alive` or `unknown` (too early to tell), and who holds the lock; a dead holder's is released."""
        status = read_lock(folder)
        if status is not None and (state := self.state(folder, status)) != "dead":
            return state, status.holder
        release(folder, status and status.holder)
        return "free", None

    def state(self, folder: Path, status: LockStatus) -> str:
        """`alive`, `dead`, or `unknown`: too early to tell."""
        if (alive := status.holder.alive) is not None:
            return "alive" if alive else "dead"
        mark, now = (status.holder, status.content), time.monotonic()
        before, since, moved = self._seen.get(folder, (mark, now, False))
        if before != mark:
            since, moved = now, before[0] == status.holder
        self._seen[folder] = mark, since, moved
        return "dead" if now - since > HEARTBEAT_TIMEOUT else "alive" if moved else "unknown"


class RunLock:
    """The lock in `folder`, held or wanted by this process. Use it through `acquire`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress: dict[str, Any] = {}  # what others are told; replace it, do not change it
        self._holder = Holder.me()
        self._file = folder / self._holder.name

    @contextlib.contextmanager
    def acquire(self, *, wait: bool = False, asked_to_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Hold the lock for a while; RunLocked where another process holds it. A dead holder's lock is taken over.

        wait: until it is known whether the holder is alive or dead; Interrupted ends that where `asked_to_stop`.
        """
        monitor, told = LockMonitor(), False
        try:
            while (holder := self._take(monitor, wait)) is not None:
                if asked_to_stop():
                    raise Interrupted(f"stopped waiting for {holder}; the same command continues")
                if not told:
                    logger.info(f"waiting up to {HEARTBEAT_TIMEOUT:.0f} s to see whether {holder}, which locks "
                                f"{self.folder.parent.name}, is still active; Ctrl-C stops waiting")
                told = True
                time.sleep(POLL_INTERVAL)
        except OSError as error:
            raise explain(error, self.folder) from None
        stop = threading.Event()
        beating = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        beating.start()
        try:
            yield
        finally:
            stop.set()
            beating.join()
            release(self.folder, self._holder)

    def check(self) -> None:
        """RunLocked where the lock was lost: others saw no heartbeat for so long that they have taken it over."""
        try:
            open(self._file, "rb").close()  # an open file server asks; a look may be an old one
        except FileNotFoundError:
            raise RunLocked("lost the lock (no heartbeat for too long); another process may have taken over "
                            f"{self.folder.parent.name}") from None
        except OSError as error:
            raise explain(error, self.folder) from None

    def _take(self, monitor: LockMonitor, wait: bool) -> Holder | None:
        """Take the lock, or return the holder that should be waited for."""
        for _ in range(ATTEMPTS):
            state, holder = monitor.look(self.folder)
            if holder is None:
                if self._make():
                    return None
            elif state == "unknown" and wait:
                return holder
            else:
                raise RunLocked(f"run {self.folder.parent.name} is locked by {holder}; wait for it, or stop it")
        raise RunLocked(f"{self.folder.parent.name}: could not get the lock after {ATTEMPTS} attempts")

    def _make(self) -> bool:
        """Make the lock, held from the start: a folder cannot be renamed over another that has something in it."""
        make_folder(self.folder.parent)
        made = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}")
        try:
            made.mkdir()
            (made / self._file.name).touch()
            os.rename(made, self.folder)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if not isinstance(error, FileNotFoundError) and not self.folder.is_dir():
                raise
            return False  # another process was faster, or holds the lock already and has removed `made` as unfinished
        return True

    def _beat(self, stop: threading.Event) -> None:
        """Rewrite the lock's file now and then, until `stop`, or the lock is lost."""
        number = 0
        while not stop.wait(HEARTBEAT_INTERVAL if number else 0):
            number += 1
            text = json.dumps({"heartbeat": number} | self.progress)
            try:
                with open(self._file, "r+b") as file:  # not "wb": that would bring a lost lock back
                    file.write(text.encode())
                    file.truncate()
            except FileNotFoundError:
                return
            except OSError:  # the file server is away
                continue


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process of this machine was started; None where it has ended. PermissionError for a process of another
    user where /proc hides those (`hidepid`)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
        return None
    return None if fields[0] in "ZX" else int(fields[19])
