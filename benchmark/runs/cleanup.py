"""What a results folder can do without: files of killed processes, old records, and what finished runs need no more.

A run's folder is looked at without its claim and, before anything in it goes, once more with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import Held, UserError
from benchmark.files import TEMPORARY, explain
from benchmark.run_lock import Claim, Watch, look
from benchmark.runs.records import read_counts, read_record

SURELY_DEAD = 3600.0  # seconds: nobody writes one record for that long, and records have no claim to ask
TEMPORARY_RECORD = re.compile(r"\..+\.(json|npz)\.[a-z0-9_]{8}")
SET_ASIDE = re.compile(r".+\.(json|npz)\.old[0-9]+")
CHECKPOINT = re.compile(r"checkpoint\.pt(\.old[0-9]+)?")
ASIDE = re.compile(r"\..+\.clean-[0-9a-f]{8}")  # a run's folder on its way out


@dataclass(frozen=True)
class Leftover:
    """One file or folder that can go."""

    kind: str
    path: Path
    size: int  # bytes, of everything in it


@dataclass
class Cleaning:
    """What was found or, where it was to be removed, is gone; and why other things still are there, a line each."""

    found: list[Leftover] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)  # somebody is at work on it, or it is not what it should be
    failed: list[str] = field(default_factory=list)  # the system refused


def clean(results: Path, kinds: Collection[str], *, remove: bool) -> Cleaning:
    """Find what is there of `kinds` (unfinished, checkpoints, old, runs), and `remove` it.

    Symbolic links inside the folders are neither followed nor removed on their own.
    """
    cleaning, watch = Cleaning(), Watch()
    for left in [*of_records(results / "records", kinds), *put_aside(results / "runs", kinds)]:
        with _noted(cleaning):
            if remove:
                erase(left.path)
            cleaning.found.append(left)
    there: dict[Path, list[Leftover]] = {}
    for folder in sorted(path for path in _entries(results / "runs") if _is_folder(path) and path.name[0] != "."):
        with _noted(cleaning):
            if found := of_run(results, folder, kinds, cleaning.left_alone.append):
                there[folder] = found
    watch.settle([folder / "claim" for folder in there])
    for folder, found in there.items():
        with _noted(cleaning):
            if remove:
                remove_of_run(results, folder, kinds, cleaning, watch)
                continue
            sight = look(folder / "claim")
            if sight is not None and watch.judge(folder / "claim", sight) != "dead":
                raise Held(f"{sight.holder} is at work on {folder.name}")
            cleaning.found += found
    return cleaning


def of_records(folder: Path, kinds: Collection[str]) -> list[Leftover]:
    """What can go of the files beside records: of killed writers, and set aside."""
    found = []
    for path in _entries(folder):
        status = _status(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            continue
        if SET_ASIDE.fullmatch(path.name) and path.name[0] != ".":
            kind = "old"
        elif TEMPORARY_RECORD.fullmatch(path.name) and time.time() - status.st_mtime > SURELY_DEAD:
            kind = "unfinished"
        else:
            continue
        if kind in kinds:
            found.append(Leftover(kind, path, status.st_size))
    return found


def put_aside(runs: Path, kinds: Collection[str]) -> list[Leftover]:
    """Folders of runs that a killed `clean` had begun to remove."""
    if "unfinished" not in kinds:
        return []
    folders = [path for path in _entries(runs) if ASIDE.fullmatch(path.name) and _is_folder(path)]
    return [Leftover("unfinished", path, size(path)) for path in folders]


def of_run(results: Path, folder: Path, kinds: Collection[str], say: Callable[[str], None]) -> list[Leftover]:
    """What can go of a run's folder, or the folder itself. `say` hears of a record that is not whole."""
    checkpoints = [path for path in _entries(folder) if CHECKPOINT.fullmatch(path.name) and _is_file(path)]
    asks = "runs" in kinds or ("checkpoints" in kinds and checkpoints)
    done = asks and is_done(results / "records" / f"{folder.name}.json", say)
    if done and "runs" in kinds:
        # without the claim, whose file grows while it is held: what is listed is what is said to be removed
        return [Leftover("runs", folder, sum(size(path) for path in _entries(folder) if path.name != "claim"))]
    found = []
    if "unfinished" in kinds:
        hidden = [path for path in _entries(folder) if TEMPORARY.fullmatch(path.name) and not path.is_symlink()]
        found = [Leftover("unfinished", path, size(path)) for path in hidden]
    if done:
        found += [Leftover("checkpoints", path, size(path)) for path in checkpoints]
    return found


def is_done(path: Path, say: Callable[[str], None]) -> bool:
    """Whether there is a whole record, with its counts, that says `done`: only then the run is needed no more."""
    if not path.is_file():
        return False
    try:
        record = read_record(path)
        if record["status"] == "done":
            read_counts(path, record)
    except UserError as error:
        say(f"the run's folder is kept: {error}")
        return False
    return record["status"] == "done" and record["run_id"] == path.stem


def remove_of_run(results: Path, folder: Path, kinds: Collection[str], cleaning: Cleaning, watch: Watch) -> None:
    """Remove what can go of a run's folder; Held where somebody is at work on the run.

    A whole folder is renamed with the claim in it, then removed: who wants the claim finds it held, or nothing at all,
    and starts in a new folder; never in one that is half removed.
    """
    with Claim(folder / "claim").held(watch):
        found = of_run(results, folder, kinds, lambda line: None)  # others may have been at it since the last look
        places = {left.path: left.path for left in found}
        if folder in places:
            places[folder] = folder.with_name(f".{folder.name}.clean-{secrets.token_hex(4)}")
            try:
                os.rename(folder, places[folder])
            except OSError as error:
                raise explain(error, folder) from None
        for left in found:
            with _noted(cleaning):
                erase(places[left.path])
                cleaning.found.append(left)


def erase(path: Path) -> None:
    """Remove a file, or a folder with everything in it; another process may be faster."""
    try:
        with contextlib.suppress(FileNotFoundError):
            if _is_folder(path):
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise explain(error, Path(error.filename or path)) from None


def size(path: Path) -> int:
    """Bytes of a file, or of everything in a folder; links count for themselves."""
    status = _status(path)
    if status is None:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    return sum(size(entry) for entry in _entries(path))


@contextlib.contextmanager
def _noted(cleaning: Cleaning) -> Iterator[None]:
    """What stands in the way of one thing does not keep others from going."""
    try:
        yield
    except Held as error:
        cleaning.left_alone.append(f"left alone: {error}")
    except UserError as error:
        cleaning.failed.append(str(error))


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order of its name; nothing where it is missing."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise explain(error, folder) from None


def _status(path: Path) -> os.stat_result | None:
    """Of the entry itself, not of what a link points to; None where it is gone."""
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(path)
    return None


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_file(path: Path) -> bool:
    return (status := _status(path)) is not None and stat.S_ISREG(status.st_mode)
