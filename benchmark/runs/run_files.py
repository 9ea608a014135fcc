"""What a run leaves in a results folder.

records/ID.json, ID.npz    its record and its counts: committed, and read by every report
runs/ID/                   its lock, log, checkpoint, weights and predicted masks
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import RUN_FAILED, UserError
from benchmark.files import (
    DAMAGED,
    ArrayFile,
    explain,
    remove_unfinished,
    sha256,
    write_arrays,
    write_atomically,
    write_json,
    write_text,
)
from benchmark.runs.lock import RunLock
from benchmark.spec import Spec

SCHEMA = 1
STATUSES = ("done", "diverged", "failed", "skipped")
KEYS: dict[str, Any] = {
    "schema": int, "run_id": str, "status": str, "exact": bool, "spec": dict, "data": dict, "scores": dict,
    "cost": dict, "weights_sha256": (str, type(None)), "numerics": dict, "environment": dict, "history": list,
}


class RunFolder:
    """`runs/ID/` of one run. Also the training loop's `RunStore`."""

    def __init__(self, results: Path, spec: Spec) -> None:
        self.path = folder_of(results, spec.run_id)
        self.spec = spec
        self.checkpoint = self.path / "checkpoint.pt"
        self.log_file = self.path / "log.jsonl"

    @contextlib.contextmanager
    def locked(self, **how: Any) -> Iterator[None]:
        """Lock the run for this process; `how`: see `RunLock.acquire`."""
        self.lock = RunLock(self.path / "lock")
        with self.lock.acquire(**how):
            remove_unfinished(self.path)
            write_json(self.path / "spec.json", self.spec.to_json())
            yield

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None; UserError when it is damaged."""
        import torch

        if not self.checkpoint.exists():
            return None
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            cause = str(error).splitlines()[0][:120]
            raise UserError(f"{self.checkpoint}: damaged checkpoint ({cause}); remove it and the run starts anew",
                            RUN_FAILED) from None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint in one move."""
        self._save(self.checkpoint, state)

    def save_weights(self, weights: dict[str, Any]) -> None:
        """The final weights, loadable with `weights_only=True`."""
        self._save(self.path / "weights.pt", weights)

    def _save(self, path: Path, content: dict[str, Any]) -> None:
        import torch

        def write(stream: Any) -> None:
            try:
                torch.save(content, stream)
            except RuntimeError as error:  # its writer wraps the system's error in one of its own
                cause = error.__cause__ or error.__context__
                number = cause.errno if isinstance(cause, OSError) else errno.ENOSPC
                raise OSError(number, str(error).splitlines()[0]) from error

        self.lock.check()
        write_atomically(path, write)

    def start_log(self, step: int) -> None:
        """Cut the log back to the lines up to `step`."""
        lines = []
        if self.log_file.exists():
            for line in self.log_file.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    if json.loads(line)["step"] <= step:
                        lines.append(line + "\n")
        write_text(self.log_file, "".join(lines))

    def log(self, lines: list[dict[str, Any]]) -> None:
        """Append one JSON line a step."""
        self.lock.check()
        try:
            with open(self.log_file, "a", encoding="utf-8") as stream:
                stream.writelines(json.dumps(line) + "\n" for line in lines)
        except OSError as error:
            raise explain(error, self.log_file) from None

    def log_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Nothing: counts keep more than these."""

    def save_masks(self, masks: dict[str, np.ndarray]) -> None:
        """Native test masks by image id [H, W]: bool, a bit a pixel, or class indices."""
        arrays: dict[str, Any] = {}
        for name, mask in masks.items():
            if mask.dtype == bool:
                arrays[name] = np.packbits(mask)
                arrays[f"{name}.shape"] = np.asarray(mask.shape)
            else:
                arrays[name] = mask
        write_atomically(self.path / "masks.npz", lambda stream: write_arrays(stream, arrays))


def folder_of(results: Path, run_id: str) -> Path:
    """Where a run's folder is."""
    return results / "runs" / run_id


def record_of(results: Path, run_id: str) -> Path:
    """Where a run's record is."""
    return results / "records" / f"{run_id}.json"


def load_masks(path: Path) -> dict[str, np.ndarray]:
    """What `save_masks` wrote."""
    arrays = ArrayFile(path)
    names = [name for name in arrays if not name.endswith(".shape")]
    shapes = {name: tuple(arrays[f"{name}.shape"]) for name in names if f"{name}.shape" in arrays}
    return {
        name: np.unpackbits(arrays[name], count=int(np.prod(shape))).reshape(shape).astype(bool)
        if (shape := shapes.get(name)) else arrays[name]
        for name in names
    }


def write_record(folder: Path, record: dict[str, Any], counts: dict[str, np.ndarray] | None) -> dict[str, Any]:
    """Write the counts first, then the record with their digest, which is returned: no record lacks its counts."""
    path = folder / f"{record['run_id']}.json"
    remove_unfinished(folder, path.stem)
    if counts is not None:
        file = path.with_suffix(".npz")
        write_atomically(file, lambda stream: write_arrays(stream, counts))
        record = record | {"counts_sha256": sha256(file)}
    write_json(path, record)
    return record


def read_record(path: Path) -> dict[str, Any]:
    """One record, validated."""
    return read_with_digest(path)[0]


def read_with_digest(path: Path) -> tuple[dict[str, Any], str]:
    """One record, validated, and the digest of its file. UserError where it is not what SCHEMA says."""
    try:
        content = path.read_bytes()
        record = json.loads(content.decode())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{path}: damaged record (not JSON); move it away and run again") from None
    if not isinstance(record, dict) or "schema" not in record:
        raise UserError(f"{path}: not a SemiHisto record; move it away and run again")
    if record["schema"] != SCHEMA:
        newer = isinstance(record["schema"], int) and record["schema"] > SCHEMA
        advice = "update SemiHisto" if newer else "run it again with --overwrite"
        raise UserError(f"{path}: schema {record['schema']}, this version reads {SCHEMA}; {advice}")
    wrong = [key for key, kind in KEYS.items() if key not in record or not isinstance(record[key], kind)]
    if wrong or record["status"] not in STATUSES:
        raise UserError(f"{path}: damaged record, '{[*wrong, 'status'][0]}' is missing or is no value of it; move it "
                        "away and run again")
    if not path.name.startswith(f"{record['run_id']}.json"):  # an archived one has .old1 after it
        raise UserError(f"{path}: the record of another run, '{record['run_id']}'; rename it, or remove it")
    return record, hashlib.sha256(content).hexdigest()


def read_counts(path: Path, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The counts beside the record at `path`, none where its run did not end well; UserError when they are missing, or
    not those it was written with."""
    if record["status"] != "done":
        return {}
    counts = path.with_suffix(".npz")
    if not counts.is_file():
        raise UserError(f"{counts}: the counts of this record are missing; restore the file, or run it again with "
                        "--overwrite")
    try:
        if sha256(counts) != record.get("counts_sha256"):
            raise UserError(f"{counts}: damaged, or not the counts of {path.name}; restore the file, or run it "
                            "again with --overwrite")
        return dict(ArrayFile(counts))
    except DAMAGED as error:
        raise UserError(f"{counts}: cannot be read ({error})") from None


def record_files(folder: Path) -> list[Path]:
    """The records' files of a folder in order of their names; a Mac leaves ._NAME.json beside them, which is none."""
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def digest(path: Path) -> str:
    """The digest of a record's file; empty where there is none."""
    try:
        return sha256(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""


def staleness(
    record: Mapping[str, Any], versions: Mapping[str, int | str], lists: Mapping[str, str],
    fingerprints: Mapping[str, str | None],
) -> str | None:
    """How a record differs from what would be made now, by code of these `versions` from images with these
    `fingerprints` by these `lists` (called as in `ResolvedRun.datasets`), where they are known; None: it is current."""
    parts = {"": record["data"]}
    parts |= {f"pool {each['dataset']}": each for each in record["data"].get("sources", ())[1:]}
    parts |= {f"elsewhere {name}": each for name, each in record.get("elsewhere", {}).items()}
    for what, key, current in (("images or masks", "fingerprint", fingerprints), ("lists", "split_fingerprint", lists)):
        for name, part in parts.items():
            before, now = part.get(key), current.get(name)
            if now is not None and before is not None and before != now:  # an old record knows no lists of a pool
                of = f" of {name.partition(' ')[2]}" if name else ""
                return f"made from other {what}{of} ({before[:12]}, now {now[:12]})"
    return None if record["numerics"] == versions else f"made with numerics {record['numerics']}, now {versions}"


def spec_of(record: Mapping[str, Any]) -> Spec:
    """The specification in a record; UserError where it is not whole."""
    try:
        return Spec.from_json(record["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{record['run_id']}: damaged record, its specification is not whole ({error}); restore the "
                        "file, or move it away and run again") from None


def device_label(environment: Mapping[str, Any]) -> str:
    """A device as one line: its brand, and of a processor family, model and stepping where the record has them."""
    processor, name = environment.get("processor") or {}, environment.get("device") or "a device without a name"
    numbers = "/".join(str(processor[key]) for key in ("family", "model", "stepping") if processor.get(key))
    return f"{name} ({numbers})" if numbers else str(name)
