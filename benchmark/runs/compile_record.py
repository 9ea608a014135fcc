"""What a record says: the public keys of DESIGN section 9, from a finished run."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.protocols import scores
from benchmark.runs.records import SCHEMA
from benchmark.runs.request import ResolvedRun
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training.code_versions import code_versions
from benchmark.training.trainer import TrainResult


def compile_record(
    spec: Spec, prepared: PreparedData, split: Split, device: torch.device, outcome: TrainResult,
    weights: dict[str, Any], versions: dict[str, int | str], command: str,
) -> dict[str, Any]:
    """The record of a run by code of these `versions`; `weights` is its final state dict, empty where it has none."""
    done = outcome.status == "done"
    return {
        "schema": SCHEMA,
        "run_id": spec.run_id,
        "status": outcome.status,
        "reason": outcome.reason,
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
        "scores": scores(outcome.counts) if done else {},
        "cost": outcome.cost,
        "weights_sha256": weights_digest(weights) if done else None,
        "numerics": versions,
        "environment": devices.environment(device),
        "history": outcome.history,
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


def staleness(record: dict[str, Any], versions: dict[str, int | str], split: Split) -> str | None:
    """How a record differs from what would be made now, by code of these `versions`; None: it is current."""
    made = {"numerics": record["numerics"], "split": record["data"].get("split_fingerprint")}
    for name, now in {"numerics": versions, "split": split.fingerprint}.items():
        if made[name] != now:
            return f"made with {name} {made[name]}, now {now}"
    return None


def check_current(record: dict[str, Any], run: ResolvedRun) -> None:
    """A record made by other code, or with other lists, is stale, and is not passed off as current."""
    if (how := staleness(record, code_versions(run.spec.method, run.dataset), run.split)) is not None:
        raise UserError(f"{run.spec.run_id} is stale: {how}; --overwrite runs it anew and sets the old record aside")
