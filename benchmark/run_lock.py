"""Claims: one process at a time works on a thing in a folder that several machines may share.

A claim is a folder with one file in it, whose *name* says who has it: `free`, or the holder's host and process. It
changes hands by renaming that file, which a file system does for one process and refuses to all others, so it never
has two holders. The holder touches the file every few seconds. Who wants a claim watches it: a file that changes is
alive, one that does not change for a while is a dead process's and may be taken over. Only changes count, never times,
so clocks may differ. On the holder's own machine the process table is asked, which answers at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import Interrupted, RunLocked, UserError
from benchmark.files import UMASK, explain, make_folder
from benchmark.lock_holder import FREE, Holder

logger = logging.getLogger(__name__)

LOOK = 0.2  # seconds between two looks at a claim that is waited for
TRIES = 50  # at what others may change at the same moment
PATIENCE = 9  # beats without one: the holder is gone (file servers show changes to others up to a minute late)


class Sight(NamedTuple):
    """One look at a claim that somebody has."""

    holder: Holder
    touched: int  # the file's time: good for telling a change, and for nothing else


def look(folder: Path) -> Sight | None:
    """Who has the claim in `folder`; None where it is free, or was never made."""
    for _ in range(TRIES):
        name = _name(folder)
        try:
            holder = Holder.parse(name) if name else None
        except ValueError:
            raise UserError(f"{folder / str(name)}: not a claim's file; remove it") from None
        if holder is None:
            return None
        with contextlib.suppress(FileNotFoundError), open(folder / holder.name, "rb") as stream:
            return Sight(holder, os.fstat(stream.fileno()).st_mtime_ns)  # opened: a file server's client asks anew
    raise RunLocked(f"{folder}: this claim changes hands faster than it can be read")


def progress(folder: Path, holder: Holder) -> dict[str, Any]:
    """What the holder last said of its work; empty where that cannot be read."""
    try:
        said = json.loads((folder / holder.name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


class Watch:
    """Tells the dead from the living among claims, by looking at them again and again.

    `dead`: names of holders that another watch has found dead.
    """

    def __init__(self, dead: Collection[str] = ()) -> None:
        self._dead = dead
        self._seen: dict[Path, tuple[Sight, float, bool]] = {}  # the last change, when it was noticed, whether one came

    def life(self, folder: Path) -> str:
        """`free`, `alive`, `dead`, or `silent`: nothing has changed yet, and it is too early to tell."""
        sight = look(folder)
        return "free" if sight is None else self.judge(folder, sight)

    def judge(self, folder: Path, sight: Sight) -> str:
        """The same of a look that was had already."""
        if sight.holder.is_gone or sight.holder.name in self._dead:
            return "dead"
        if sight.holder.is_here:
            return "alive"
        now = _now()
        before, since, moved = self._seen.get(folder, (sight, now, False))
        if before != sight:
            since, moved = now, before.holder == sight.holder
        self._seen[folder] = (sight, since, moved)
        if now - since > PATIENCE * sight.holder.beat:
            return "dead"
        return "alive" if moved else "silent"

    def settle(self, folders: Iterable[Path]) -> None:
        """Look at these claims until none is `silent` any more."""
        silent = [folder for folder in folders if self._is_silent(folder)]
        if silent:
            wait = PATIENCE * max(self._seen[folder][0].holder.beat for folder in silent)
            runs = f"{len(silent)} run{'s' * (len(silent) > 1)}"
            logger.info(f"looking for signs of life at {runs} that other machines have, for up to {wait:.0f} s")
        while silent:
            time.sleep(LOOK)
            silent = [folder for folder in silent if self._is_silent(folder)]

    def _is_silent(self, folder: Path) -> bool:
        try:
            return self.life(folder) == "silent"
        except (UserError, OSError):  # told by who deals with this one
            return False


class Claim:
    """A claim that this process has or wants. Use it through `held`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.me: Holder | None = None
        self.said: dict[str, Any] = {}  # what `progress` tells others; replace it, do not change it
        self._beaten = 0.0
        self._lost = False
        self._stop = threading.Event()

    @contextlib.contextmanager
    def held(
        self, watch: Watch | None = None, wait: Collection[str] = (), *,
        asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Have the claim for a while; RunLocked where another process has it, and goes on having it.

        A dead holder's claim is taken over. `wait`: while the holder is `silent`, while it is `alive`; Interrupted ends
        it where `asked_to_stop`.
        """
        watch, told = watch or Watch(), False
        try:
            while (holder := self._take(watch, wait)) is not None:
                if asked_to_stop():
                    raise Interrupted(f"stopped waiting for {holder}; the same command continues")
                if not told:
                    until = "its end" if "alive" in wait else f"a sign of life, {PATIENCE * holder.beat:.0f} s at most"
                    logger.info(f"{holder} has {self.folder.parent.name}: waiting for {until}; Ctrl-C stops it")
                told = True
                time.sleep(LOOK)
        except OSError as error:
            raise explain(error, self.folder) from None
        beating = threading.Thread(target=self._keep_beating, daemon=True)
        beating.start()
        try:
            yield
        finally:
            self._stop.set()
            beating.join()
            assert self.me is not None
            with contextlib.suppress(OSError):  # taken over, or the file server is away: others find out by watching
                os.rename(self.folder / self.me.name, self.folder / FREE)

    def check(self) -> None:
        """RunLocked where the claim was lost: this process was silent for so long that another took it over."""
        assert self.me is not None
        if not self._lost and _now() - self._beaten > 2 * self.me.beat:
            self._touch()
        if self._lost or _now() - self._beaten > PATIENCE * self.me.beat / 2:
            raise RunLocked(f"{self.folder.parent.name}: this process was silent for too long, another may work on it")

    def _take(self, watch: Watch, wait: Collection[str]) -> Holder | None:
        """Have the claim, or return the holder that should be waited for."""
        self.me = Holder.me()
        for _ in range(TRIES):
            sight = look(self.folder)
            if sight is None:
                if self._rename(FREE) or self._make():
                    break
            elif (life := watch.judge(self.folder, sight)) != "dead":
                if life in wait:
                    return sight.holder
                raise RunLocked(f"{sight.holder} is at work on {self.folder.parent.name}; wait for it, or stop it")
            elif self._rename(sight.holder.name):
                break
        else:
            raise RunLocked(f"{self.folder}: others take this claim all the time")
        self._touch()
        return None

    def _make(self) -> bool:
        """Make the claim, held from the start: a folder cannot be renamed over another that has something in it."""
        assert self.me is not None
        make_folder(self.folder.parent)
        made = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}."))
        try:
            made.chmod(0o777 & ~UMASK)
            (made / self.me.name).touch()
            os.rename(made, self.folder)
        except FileNotFoundError:  # `made` was tidied up by somebody who has the claim now
            return False
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            if not self.folder.is_dir():
                raise
            return False
        return True

    def _rename(self, name: str) -> bool:
        assert self.me is not None
        mine = self.folder / self.me.name
        try:
            os.rename(self.folder / name, mine)
        except FileNotFoundError:
            return mine.exists()  # a file server may have done what it was asked, and lost the answer
        return True

    def _touch(self) -> None:
        assert self.me is not None
        path = self.folder / self.me.name
        try:
            os.utime(path)
            self._beaten = _now()
        except FileNotFoundError:
            self._lost = True
            return
        except OSError:  # the file server is away; `check` gives up in time
            return
        with contextlib.suppress(OSError), open(path, "r+b") as stream:  # not "wb": that would bring back a lost claim
            stream.write(json.dumps(self.said).encode() + b"\n")
            stream.truncate()

    def _keep_beating(self) -> None:
        assert self.me is not None
        while not self._stop.wait(self.me.beat) and not self._lost:
            self._touch()


def _name(folder: Path) -> str | None:
    """The one name in a claim's folder; None where the folder is missing or, its file removed by hand, empty."""
    names: list[str] = []
    for _ in range(TRIES):
        try:
            names = [name for name in os.listdir(folder) if not name.startswith(".")]
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise explain(NotADirectoryError(), folder) from None
        if len(names) == 1:
            break
        time.sleep(0.002)  # a listing in the middle of a rename shows both names or none
    return names[0] if names else None


def _now() -> float:
    """Seconds on a clock that also runs while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
