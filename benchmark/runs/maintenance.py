"""Maintenance of a results folder: remove files that are not needed any more, and copy records from other folders."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmark.errors import CHECK_FAILED, UserError, listed
from benchmark.files import TEMPORARY, explain, set_aside, write_bytes
from benchmark.runs.lock import read_lock
from benchmark.runs.run_files import folder_of, read_counts, read_record, record_files, record_of

DAY = 86400.0  # seconds: no process writes one file for that long
ARCHIVED = re.compile(r"[^.].*\.old[0-9]+")
SAME = ("status", "numerics", "counts_sha256")  # of two records of one result, beside the fingerprints of their data
COPIED, SKIPPED, REPLACED = "copied", "skipped", "replaced"


def removable(results: Path) -> Iterator[Path]:
    """Archived files (*.old1, ...), checkpoints of runs that have ended, temporary files older than a day."""
    for folder in (results / "records", *sorted((results / "runs").glob("*/"))):
        if not folder.is_dir() or folder.is_symlink():
            continue
        for path in sorted(folder.iterdir()):
            is_temporary = TEMPORARY.fullmatch(path.name) and time.time() - path.lstat().st_mtime > DAY
            is_checkpoint = path.name == "checkpoint.pt" and _is_finished(results, folder.name)
            if (is_temporary or ARCHIVED.fullmatch(path.name) or is_checkpoint) and not path.is_symlink():
                yield path


def _is_finished(results: Path, run_id: str) -> bool:
    """Whether the run has a whole record, which does not say `failed`, and no process works on it."""
    path = record_of(results, run_id)
    try:
        record = read_record(path)
        read_counts(path, record)
        return record["status"] != "failed" and read_lock(folder_of(results, run_id) / "lock") is None
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


def merge(folders: Sequence[Path], results: Path, *, dry_run: bool = False) -> dict[Path, dict[str, list[str]]]:
    """Copy the records that `results` lacks from other results folders, each after its counts.

    Returns of each folder the ids of runs that are copied, skipped (the same result is there), or replace a failed run.
    All are compared before the first is copied. UserError, and nothing is copied, where one differs from what is there,
    for a folder without records, and for a damaged record.
    """
    chosen: dict[str, Path] = {}  # the record of each run, among the folders so far
    found: dict[Path, dict[str, list[str]]] = {}
    differ = []
    for folder in folders:
        found[folder] = {COPIED: [], SKIPPED: [], REPLACED: []}
        for path in _offered(folder, results):
            there = chosen.get(path.stem, results / "records" / path.name)
            if (what := _compare(path, there)) is None:
                differ.append(f"{path} and {there}")
                continue
            found[folder][what].append(path.stem)
            if what != SKIPPED:
                chosen[path.stem] = path
    if differ:
        shown = listed(differ, 3, "; ")
        raise UserError(f"{len(differ)} records differ, and nothing was copied: {shown}. Remove one of each (.json and "
                        ".npz), or run again with --overwrite", CHECK_FAILED)
    for path in () if dry_run else chosen.values():
        _copy(path, results / "records" / path.name)
    return found


def _offered(folder: Path, results: Path) -> list[Path]:
    """The records in another results folder, or in its `records`."""
    place = folder / "records" if (folder / "records").is_dir() else folder
    if place.resolve() == (results / "records").resolve():
        raise UserError(f"{folder}: this is the folder that records are copied to; name others, or another --results")
    if not (paths := record_files(place)):
        raise UserError(f"{folder}: no records in it; name a results folder, or the records folder in one")
    return paths


def _compare(path: Path, there: Path) -> str | None:
    """What becomes of a record, given the one that is there; None where they differ."""
    new = _marks(path)
    if not there.exists():
        return COPIED
    old = _marks(there)
    if new == old or new["status"] == "failed":
        return SKIPPED
    return REPLACED if old["status"] == "failed" else None


def _marks(path: Path) -> dict[str, object]:
    """What two records of the same result have in common; UserError for a damaged record, or damaged counts."""
    record = read_record(path)
    read_counts(path, record)
    fingerprints = {key: value for key, value in record["data"].items() if key.endswith("fingerprint")}
    return {key: record.get(key) for key in SAME} | fingerprints


def _copy(path: Path, target: Path) -> None:
    try:
        set_aside(target.with_suffix(".npz"), target)
        for source in (path.with_suffix(".npz"), path):
            if source.exists():
                write_bytes(target.with_suffix(source.suffix), source.read_bytes())
    except OSError as error:
        raise explain(error, target) from None
