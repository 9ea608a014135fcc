"""Care of a results folder: removing what is not needed any more, and copying records from other folders."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import UserError
from benchmark.files import TEMPORARY, explain, write_bytes
from benchmark.runs.folder import lock_of
from benchmark.runs.lock import read_lock
from benchmark.runs.records import archive_record, read_counts, read_record, record_files

DAY = 86400.0  # seconds: no process writes one file for that long
ARCHIVED = re.compile(r".+\.old[0-9]+")
SAME = ("status", "numerics", "counts_sha256")  # of two records of one result, beside the fingerprints of their data


def removable(results: Path) -> list[Path]:
    """Archived files (*.old1, ...), checkpoints of finished runs, and temporary files that are older than a day."""
    return sorted(path for path in _removable(results) if not path.is_symlink())


def _removable(results: Path) -> Iterator[Path]:
    for folder in (results / "records", *(results / "runs").glob("*/")):
        if not folder.is_dir() or folder.is_symlink():
            continue
        for path in folder.iterdir():
            is_temporary = TEMPORARY.fullmatch(path.name) and time.time() - path.lstat().st_mtime > DAY
            is_archived = ARCHIVED.fullmatch(path.name) and path.name[0] != "."
            is_checkpoint = path.name == "checkpoint.pt" and _is_finished(results, folder.name)
            if is_temporary or is_archived or is_checkpoint:
                yield path


def _is_finished(results: Path, run_id: str) -> bool:
    """Whether the run has a whole record that says `done`, and no process works on it."""
    path = results / "records" / f"{run_id}.json"
    try:
        record = read_record(path)
        if record["status"] == "done":
            read_counts(path, record)
        return bool(record["status"] == "done" and read_lock(lock_of(results, run_id)) is None)
    except UserError:
        return False


def remove(path: Path) -> None:
    """Remove a file, or a temporary folder."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise explain(error, path) from None


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(part.lstat().st_size for part in (path, *path.rglob("*")) if not part.is_dir())


@dataclass
class Merge:
    """What becomes of the records of one folder: run ids that are copied, skipped (the same result is there), or
    replace a failed run; and a line for each that differs."""

    folder: Path
    copied: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def merge(folders: Sequence[Path], results: Path, *, dry_run: bool = False) -> list[Merge]:
    """Copy the records that `results` lacks from other results folders, each after its counts.

    All are compared before the first is copied: where one differs from what is there, nothing is copied. UserError for
    a folder without records, and for a damaged record.
    """
    chosen: dict[str, Path] = {}  # the record of each run, among the folders so far
    merges = []
    for folder in folders:
        found = Merge(folder)
        for path in _offered(folder, results):
            there = chosen.get(path.stem, results / "records" / path.name)
            what = _compare(path, there)
            if what == "conflicts":
                found.conflicts.append(f"{path} and {there} differ; remove one (.json and .npz), or run again with "
                                       "--overwrite")
            else:
                getattr(found, what).append(path.stem)
            if what in ("copied", "replaced"):
                chosen[path.stem] = path
        merges.append(found)
    if not dry_run and not any(found.conflicts for found in merges):
        for path in chosen.values():
            _copy(path, results / "records" / path.name)
    return merges


def _offered(folder: Path, results: Path) -> list[Path]:
    """The records in another results folder, or in its `records`."""
    place = folder / "records" if (folder / "records").is_dir() else folder
    if any(own.is_dir() and place.is_dir() and place.samefile(own) for own in (results, results / "records")):
        raise UserError(f"{folder}: this is the folder that records are copied to; name others, or another --results")
    if not (paths := record_files(place)):
        raise UserError(f"{folder}: no records in it; name a results folder, or the records folder in one")
    return paths


def _compare(path: Path, there: Path) -> str:
    """What a record comes to, given the one that is there: a field of `Merge`."""
    marks = [_marks(each) for each in (path, there) if each.exists()]
    if len(marks) == 1:
        return "copied"
    status, other = marks[0][0], marks[1][0]
    if marks[0] == marks[1] or status == "failed":
        return "skipped"
    return "replaced" if other == "failed" else "conflicts"


def _marks(path: Path) -> list[object]:
    """What two records of the same result have in common; UserError for a damaged record, or damaged counts."""
    record = read_record(path)
    if record["run_id"] != path.stem:
        raise UserError(f"{path}: the record of another run, '{record['run_id']}'; rename it, or remove it")
    if record["status"] == "done":
        read_counts(path, record)
    fingerprints = {key: value for key, value in record["data"].items() if key.endswith("fingerprint")}
    return [*(record.get(key) for key in SAME), fingerprints]


def _copy(path: Path, target: Path) -> None:
    try:
        if target.exists():
            archive_record(target)
        for source in (path.with_suffix(".npz"), path):
            if source.exists():
                write_bytes(target.with_suffix(source.suffix), source.read_bytes())
    except OSError as error:
        raise explain(error, target) from None
