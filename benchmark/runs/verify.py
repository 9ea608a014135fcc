"""A record's run, made again in a folder of its own, and compared with the record aspect by aspect."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.load import load_dataset
from benchmark.errors import Interrupted, UserError
from benchmark.runs.experiment import read_experiment
from benchmark.runs.plan import plan
from benchmark.runs.records import read_counts, read_record, spec_of
from benchmark.runs.request import Request, recorded, specify
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.training import device as devices
from benchmark.training.code_versions import code_versions

ASPECTS = ("specification", "data", "counts", "scores", "weights")
FINGERPRINTS = ("fingerprint", "arrays_fingerprint", "split_fingerprint")
SHOWN = 3  # differences of one aspect that a line has room for


@dataclass
class Verdict:
    """How a record and its run made again compare: of every aspect None where they are equal, else the difference."""

    run_id: str
    doubts: list[str]  # why equal numbers cannot be expected here
    differences: dict[str, str | None] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return set(self.differences) == set(ASPECTS) and not any(self.differences.values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"run_id": self.run_id, "equal": self.equal, "doubts": self.doubts, "differences": self.differences}


def sample(experiment: str, number: int, seed: int, results: Path, device_kind: str) -> list[Path]:
    """The records of `number` finished runs of an experiment, taken at random; UserError where there are fewer."""
    done = sorted(
        entry.spec.run_id for entry in plan(read_experiment(experiment), results, device_kind)
        if entry.record is not None and entry.record["status"] == "done"
    )
    if number > len(done):
        raise UserError(f"--sample {number}: {results / 'records'} holds {len(done)} finished runs of {experiment} "
                        f"that were made on {device_kind}")
    return [results / "records" / f"{name}.json" for name in sorted(random.Random(seed).sample(done, number))]


def doubts(record: Mapping[str, Any], device_name: str) -> list[str]:
    """Why a record cannot be expected to be met number for number here. UserError where it cannot be made here at all.
    """
    made, kind = record["environment"], record["environment"].get("device_type", "cpu")
    device = devices.choose(kind if device_name == "auto" else device_name, must_exist=False)
    if device.type != kind:
        raise UserError(f"{record['run_id']} was made on {kind}; on {device.type} it would be another run")
    here = devices.environment(devices.choose(str(device)))
    found = [
        f"it was made with {key} {made.get(key, 'unknown')}, here is {here[key]}"
        for key in ("device", "instructions", "torch", "cuda") if made.get(key) != here[key]
    ]
    if not record["exact"]:
        found.append("its kind of device repeats a run bit for bit only with train.deterministic=true")
    spec = spec_of(record)
    if record["numerics"] != (now := code_versions(spec.method, load_dataset(spec.source or spec.dataset))):
        found.append(f"it is stale: made with numerics {record['numerics']}, now {now}")
    return found


def verify(
    path: Path, asked: Callable[[], Request], device_name: str, *, raw: str | None = None,
    **callbacks: Any,
) -> Verdict:
    """Make the run of the record at `path` again; `asked` says what its command asks for. Nothing is changed.

    The specification that is compared is what the command comes to now; the run is made from the record's own.
    """
    record = read_record(path)
    if record["status"] == "failed":
        raise UserError(f"{path}: this run failed ({record['reason']}); there is nothing to compare")
    before = counts_of(path, record)
    spec, verdict = spec_of(record), Verdict(record["run_id"], doubts(record, device_name))
    kind = record["environment"].get("device_type", "cpu")
    device_name = kind if device_name == "auto" else device_name
    verdict.differences["specification"] = specification(record, asked, kind)
    with tempfile.TemporaryDirectory(prefix="semihisto-verify-") as folder:
        results, same = Path(folder) / "results", recorded(record, spec, Path(folder))
        if (found := specify(same, kind).spec.split) != spec.split:
            raise UserError(f"{same.labelled_file}: not the list that {spec.run_id} was given: with it the split is "
                            f"{found}; put the file back as it was")
        try:
            again, _ = run_or_load(same, RunOptions(results, raw, device_name, keep="nothing"), **callbacks)
        except Interrupted:
            raise Interrupted("stopped; nothing was changed, and the same command starts this run anew") from None
        counts = counts_of(results / "records" / f"{again['run_id']}.json", again)
    verdict.differences |= {
        "data": listed(f"{key} is another" for key in FINGERPRINTS if record["data"].get(key) != again["data"][key]),
        "counts": count_differences(before, counts),
        "scores": score_differences(record, again),
        "weights": None if record["weights_sha256"] == again["weights_sha256"] else "other weights",
    }
    return verdict


def counts_of(path: Path, record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The counts beside a record; none where the run did not end well."""
    return read_counts(path, record) if record["status"] == "done" else {}


def specification(record: Mapping[str, Any], asked: Callable[[], Request], kind: str) -> str | None:
    """How the specification that a record's command comes to now differs from the record's; also from its own name."""
    then = spec_of(record)
    if then.run_id != record["run_id"]:
        return f"the record's specification is that of {then.run_id}: it was edited"
    try:
        now = specify(asked(), kind).spec
    except UserError as error:
        return f"the record's command does not work any more: {error}"
    return changes(then.to_json(), now.to_json(), "the command now gives {}")


def count_differences(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> str | None:
    """Which arrays of the evidence differ, in how many numbers and by how much."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new or old[name].shape != new[name].shape:
            found.append(f"{name} has another shape")
        elif old[name].dtype.kind not in "iuf":
            if not np.array_equal(old[name], new[name]):
                found.append(f"{name} has other values")
        else:
            differ = ~((old[name] == new[name]) | ((old[name] != old[name]) & (new[name] != new[name])))
            if differ.any():
                gaps = np.abs(old[name].astype(np.float64) - new[name].astype(np.float64))[differ]
                found.append(f"{name} in {np.count_nonzero(differ)} of {differ.size} numbers, at most by "
                             f"{np.nanmax(gaps):g}")
    return listed(found)


def score_differences(record: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """What of the status and the scores differs; the first few, and how many there are."""
    if record["status"] != again["status"]:
        return f"it was {record['status']}, now {again['status']} ({again['reason']})"
    return changes(record["scores"], again["scores"], "now {}")


def changes(old: Mapping[str, Any], new: Mapping[str, Any], how: str) -> str | None:
    """Which values of two trees differ; `how` says what the new one is."""
    before, now = _flat(old), _flat(new)
    return listed(
        f"{key} was {_short(before.get(key))}, {how.format(_short(now.get(key)))}"
        for key in sorted(before | now) if before.get(key) != now.get(key)
    )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def listed(differences: Any) -> str | None:
    """The first few differences in one line, None where there are none."""
    found = list(differences)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more if found else None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
