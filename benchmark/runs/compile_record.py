"""What a record says: the public keys of DESIGN section 9, from a finished run."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch

from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.protocols import scores
from benchmark.runs.records import SCHEMA
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training.trainer import TrainResult


class RunInputs(NamedTuple):
    """All that decides a run's numbers; `versions`: of the code that runs it."""

    spec: Spec
    prepared: PreparedData
    split: Split
    device: torch.device
    versions: dict[str, int | str]


def compile_record(inputs: RunInputs, result: TrainResult, weights_sha256: str | None, command: str) -> dict[str, Any]:
    """The record of a run; `weights_sha256`: of its final weights, where it has any."""
    spec, prepared, split, device, versions = inputs
    done = result.status == "done"
    return {
        "schema": SCHEMA,
        "run_id": spec.run_id,
        "status": result.status,
        "reason": result.reason,
        "exact": device.type == "cpu" or bool(spec.values["train.deterministic"]),
        "spec": spec.to_json(),
        "data": {
            "fingerprint": prepared.fingerprint,
            "arrays_fingerprint": prepared.arrays_fingerprint,
            "split_fingerprint": split.fingerprint,
            "labelled": len(split.labelled),
            "unlabelled": len(split.unlabelled),
            "validation": len(split.validation),
            "test": len(split.test),
        } | ({"labelled_ids": list(split.labelled)} if "+" in split.name else {}),  # of a list that is the user's own
        "scores": scores(result.counts) if done else {},
        "cost": result.cost,
        "weights_sha256": weights_sha256,
        "numerics": versions,
        "environment": devices.environment(device),
        "history": result.history,
        "command": command,
    }


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the weights, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
