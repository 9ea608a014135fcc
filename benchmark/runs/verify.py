"""A record's run, made again in a folder of its own, and compared with the record aspect by aspect."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmark.config.compose import settings_in
from benchmark.data.load import load_dataset
from benchmark.errors import Interrupted, UserError, listed
from benchmark.nets import weights
from benchmark.runs.experiment import read_experiment
from benchmark.runs.plan import plan
from benchmark.runs.request import Request
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.run_files import device_label, read_counts, read_record, record_of, spec_of
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training.setup import code_versions

FINGERPRINTS = ("fingerprint", "arrays_fingerprint", "split_fingerprint", "annotation")
SHOWN = 3  # differences of one aspect that a line has room for


@dataclass
class Comparison:
    """A record against its run made again: of every aspect None where they are equal, else the difference."""

    run_id: str
    caveats: list[str]  # why exact equality is not expected here
    differences: dict[str, str | None] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return not any(self.differences.values())


def sample(experiment: str, number: int, seed: int, results: Path, device: torch.device) -> list[Path]:
    """The records of `number` finished runs of an experiment, taken at random; UserError where there are fewer.

    If this model of device has made as many, they are its own: on another model, equality is not expected.
    """
    done = {
        entry.spec.run_id: device_label(entry.record["environment"])
        for entry in plan(read_experiment(experiment), results, device.type)
        if entry.record is not None and entry.record["status"] == "done"
    }
    if number > len(done):
        raise UserError(f"--sample {number}: {results / 'records'} holds only {len(done)} finished runs of "
                        f"{experiment} made on {device.type}")
    here = device_label(devices.environment(device))
    own = [name for name, label in done.items() if label == here]
    names = own if len(own) >= number else done
    return [record_of(results, name) for name in sorted(random.Random(seed).sample(sorted(names), number))]


def caveats_of(record: Mapping[str, Any], device_name: str) -> list[str]:
    """Why exact equality is not expected here. UserError where the run cannot be made here at all."""
    if record["status"] == "failed":
        raise UserError(f"{record['run_id']} failed ({record['reason']}); there is nothing to compare")
    made, kind = record["environment"], record["environment"].get("device_type", "cpu")
    device = devices.choose(kind if device_name == "auto" else device_name)
    if device.type != kind:
        raise UserError(f"{record['run_id']} was made on {kind}; on {device.type} it would be another run")
    here, spec = devices.environment(device), spec_of(record)
    found = [
        f"recorded with {key} {made.get(key, 'unknown')}, here it is {here[key]}"
        for key in ("device", "instructions", "torch", "cuda") if made.get(key) != here[key]
    ]
    if earlier := made.get("earlier"):
        found.append(f"the run was begun elsewhere, on {first(device_label(each) for each in earlier)}")
    elif not record["exact"]:
        found.append("this kind of device repeats a run bit for bit only with train.deterministic=true")
    if record["numerics"] != (now := code_versions(spec.method, load_dataset(spec.source or spec.dataset))):
        found.append(f"the record is stale: made by code {record['numerics']}, now {now}")
    return found


def verify(path: Path, device_name: str, *, raw: str | None = None, **callbacks: Any) -> Comparison:
    """Make the run that the record at `path` specifies again, in a temporary folder, and compare."""
    record = read_record(path)
    comparison, before = Comparison(record["run_id"], caveats_of(record, device_name)), read_counts(path, record)
    device = record["environment"].get("device_type", "cpu") if device_name == "auto" else device_name
    with tempfile.TemporaryDirectory(prefix="semihisto-verify-") as folder:
        results = Path(folder) / "results"
        request = recorded(record, spec_of(record), Path(folder) / "labelled.txt")
        try:
            again, _ = run_or_load(request, RunOptions(results, raw, device, keep="nothing"), **callbacks)
        except Interrupted:
            raise Interrupted("stopped; nothing was changed, and the same command starts this run anew") from None
        after = read_counts(record_of(results, again["run_id"]), again)
    comparison.differences = {
        "specification": None if again["run_id"] == record["run_id"] else
        f"the record's specification is that of {again['run_id']}: it was edited",
        "data": first(f"another {key}" for key in FINGERPRINTS if record["data"].get(key) != again["data"].get(key)),
        "counts": count_differences(before, after),
        "scores": changes({"status": record["status"]} | record["scores"],
                          {"status": again["status"]} | again["scores"]),
        "weights": None if record["weights_sha256"] == again["weights_sha256"] else "other weights",
    }
    return comparison


def recorded(record: Mapping[str, Any], spec: Spec, file: Path) -> Request:
    """What asks for a record's own specification, whatever its command says; a labelled list of the user's own is
    written into `file`."""
    weights.recall(settings_in(record["command"]))
    split, _, mark = spec.split.partition("+")
    if mark:
        file.write_text("".join(f"{name}\n" for name in record["data"].get("labelled_ids", ())), encoding="utf-8")
    return Request(
        spec.method, spec.source or spec.dataset, split, spec.ratio, spec.fold, spec.seed, spec.preset,
        dict(spec.values), file if mark else None,
    )


def count_differences(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> str | None:
    """Which arrays differ, in how many numbers and by how much; what only a newer version counts is not compared."""
    found = []
    for name in sorted(old):
        if name not in new or old[name].shape != new[name].shape:
            found.append(f"{name} has another shape")
        elif not np.array_equal(old[name], new[name], equal_nan=old[name].dtype.kind == "f"):
            differ = old[name] != new[name]
            found.append(f"{name} in {differ.sum()} of {differ.size} values")
            if old[name].dtype.kind in "iuf":
                found[-1] += f", at most by {np.nanmax(np.abs(old[name].astype(float) - new[name].astype(float))):g}"
    return first(found)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Which values of a tree are others now; what only the new one has is a score that was added to the suite since."""
    before, now = (pd.json_normalize(dict(tree)).iloc[0].to_dict() for tree in (old, new))
    differ = (key for key in sorted(before) if before[key] != now.get(key))
    return first(f"{key} was {before[key]}, now {now.get(key)}" for key in differ)


def first(differences: Iterable[str]) -> str | None:
    """The first differences in one line, None where there are none."""
    return listed(list(differences), SHOWN, "; ") or None
