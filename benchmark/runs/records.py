"""Records: one validated JSON file and one counts file a run; committed, and read by every report."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.splits import Split
from benchmark.errors import UserError
from benchmark.files import (
    DAMAGED,
    ArrayFile,
    remove_unfinished,
    sha256,
    write_arrays,
    write_atomically,
    write_json,
)
from benchmark.spec import Spec

SCHEMA = 1
STATUSES = ("done", "diverged", "failed", "skipped")
KEYS: dict[str, Any] = {
    "schema": int, "run_id": str, "status": str, "exact": bool, "spec": dict, "data": dict, "scores": dict,
    "cost": dict, "weights_sha256": (str, type(None)), "numerics": dict, "environment": dict, "history": list,
}


def write_record(
    folder: Path, record: dict[str, Any], counts: dict[str, np.ndarray] | None
) -> dict[str, Any]:
    """Write the counts first, then the record with their digest, which is returned: no record lacks its counts."""
    path = folder / f"{record['run_id']}.json"
    remove_unfinished(folder, path.stem)
    if counts is not None:
        file = path.with_suffix(".npz")
        write_atomically(file, lambda stream: write_arrays(stream, counts))
        record = record | {"counts_sha256": sha256(file)}
    check_record(record, path)
    write_json(path, record)
    return record


def check_record(record: Any, path: Path) -> None:
    """UserError when `record` is not what schema 1 says."""
    if not isinstance(record, dict) or "schema" not in record:
        raise UserError(f"{path}: not a SemiHisto record; move it away and run again")
    if record["schema"] != SCHEMA:
        newer = isinstance(record["schema"], int) and record["schema"] > SCHEMA
        advice = "update SemiHisto" if newer else "run it again"
        raise UserError(f"{path}: schema {record['schema']}, this version reads {SCHEMA}; {advice}")
    for key, kind in KEYS.items():
        if key not in record:
            raise UserError(f"{path}: damaged record, '{key}' is missing; move it away and run again")
        if not isinstance(record[key], kind):
            raise UserError(f"{path}: damaged record, '{key}' has the wrong type; move it away and run again")
    if record["status"] not in STATUSES:
        raise UserError(f"{path}: damaged record, unknown status '{record['status']}'; move it away and run again")


def read_record(path: Path) -> dict[str, Any]:
    """One record, validated."""
    return read_with_digest(path)[0]


def read_with_digest(path: Path) -> tuple[dict[str, Any], str]:
    """One record, validated, and the digest of its file as it was read."""
    try:
        content = path.read_bytes()
        record = json.loads(content.decode())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{path}: damaged record (not JSON); move it away and run again") from None
    check_record(record, path)
    return record, hashlib.sha256(content).hexdigest()


def staleness(
    record: Mapping[str, Any], versions: Mapping[str, int | str], split: Split, fingerprint: str | None = None
) -> str | None:
    """How a record differs from what would be made now, by code of these `versions` from data with this `fingerprint`,
    where that is known; None: it is current."""
    before = record["data"].get("fingerprint", "")
    if fingerprint not in (None, before):
        return f"made from other images or masks (pixels {before[:12]}, now {str(fingerprint)[:12]})"
    made = {"numerics": record["numerics"], "split": record["data"].get("split_fingerprint")}
    for name, now in {"numerics": versions, "split": split.fingerprint}.items():
        if made[name] != now:
            return f"made with {name} {made[name]}, now {now}"
    return None


def spec_of(record: Mapping[str, Any]) -> Spec:
    """The specification in a record; UserError where it is not whole."""
    try:
        return Spec.from_json(record["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{record['run_id']}: damaged record, its specification is not whole ({error}); restore the "
                        "file, or move it away and run again") from None


def digest(path: Path) -> str:
    """The digest of a record's file; empty where there is none."""
    try:
        return sha256(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""


def read_counts(path: Path, record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The counts beside the record at `path`; UserError when they are missing or not those it was written with."""
    counts = path.with_suffix(".npz")
    if not counts.is_file():
        raise UserError(f"{counts}: the counts of this record are missing; restore the file or run again")
    try:
        digest = sha256(counts)
    except OSError as error:
        raise UserError(f"{counts}: cannot be read ({error.strerror})") from None
    if digest != record.get("counts_sha256"):
        raise UserError(f"{counts}: damaged, or not the counts of {path.name}; restore the file or run again")
    try:
        return dict(ArrayFile(counts))
    except DAMAGED as error:
        raise UserError(f"{counts}: cannot be read ({error})") from None


def record_files(folder: Path) -> list[Path]:
    """The records' files of a folder in order of their names; a Mac leaves ._NAME.json beside them, which is none."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def read_records(folder: Path) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """All records of a folder in order of their names, each with its counts (none where a run did not end well)."""
    found = []
    for path in record_files(folder):
        record = read_record(path)
        found.append((record, read_counts(path, record) if record["status"] == "done" else {}))
    return found


def archive_record(path: Path) -> None:
    """Keep an old record and its counts as NAME.old1, .old2, ..."""
    number, counts = 1, path.with_suffix(".npz")
    while any(file.with_name(f"{file.name}.old{number}").exists() for file in (path, counts)):
        number += 1
    for file in (counts, path):
        if file.exists():
            os.replace(file, file.with_name(f"{file.name}.old{number}"))


def device_label(environment: Mapping[str, Any]) -> str:
    """A device as one line: its brand, and of a processor family, model and stepping where the record has them."""
    processor, name = environment.get("processor") or {}, environment.get("device") or "a device without a name"
    numbers = "/".join(str(processor[key]) for key in ("family", "model", "stepping") if processor.get(key))
    return f"{name} ({numbers})" if numbers else str(name)
