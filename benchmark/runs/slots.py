"""Which places for workers a machine offers: one a GPU, or one a CPU core."""

from __future__ import annotations

import os

import torch

from benchmark.errors import UserError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def places(device: str, kind: str, slots: int | None, gpus: str | None) -> int:
    """How many workers there will be; for the arguments see `environments`."""
    if slots:
        return slots
    if kind == "cpu":
        return cores()
    return len(gpus.split(",")) if gpus else 1 if ":" in device else max(1, torch.cuda.device_count())


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def environments(device: str, kind: str, slots: int | None, gpus: str | None) -> list[dict[str, str]]:
    """What the workers have in their environment, one entry a slot.

    device, kind: as asked for, as resolved. slots: how many (None: one a GPU, or one a CPU core). gpus: "0,1".
    """
    if kind == "cpu":
        if gpus:
            raise UserError("--gpus: this grid runs on the CPU; leave it out, or use --device cuda")
        return [ONE_THREAD] * places(device, kind, slots, gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    if not there:
        raise UserError(f"--device {device}: torch sees no CUDA device here; use --device cpu")
    one = device.partition(":")[2]
    chosen = gpus.split(",") if gpus else [there[int(one)]] if one else there
    unknown = [gpu for gpu in chosen if gpu not in there]
    if unknown:
        raise UserError(f"--gpus {gpus}: there is no {', '.join(unknown)}; there is {', '.join(there)}")
    return [
        {"CUDA_VISIBLE_DEVICES": chosen[slot % len(chosen)]} for slot in range(places(device, kind, slots, gpus))
    ]
