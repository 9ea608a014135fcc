"""Which places for workers a machine offers: one a GPU, or one a CPU core."""

from __future__ import annotations

import os

import torch

from benchmark.errors import UserError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def places(kind: str) -> int:
    """How many GPUs, or CPU cores, this process may use; at least one."""
    return max(1, torch.cuda.device_count() if kind == "cuda" else len(os.sched_getaffinity(0)))


def environments(device: str, kind: str, slots: int | None, gpus: str | None) -> list[dict[str, str]]:
    """What the workers have in their environment, one entry a slot.

    device, kind: as asked for, as resolved. slots: how many (None: one a GPU, or one a CPU core). gpus: "0,1".
    """
    if kind == "cpu":
        if gpus:
            raise UserError("--gpus: this grid runs on the CPU; leave it out, or use --device cuda")
        return [ONE_THREAD] * (slots or places(kind))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    one = device.partition(":")[2]
    chosen = gpus.split(",") if gpus else [there[int(one)]] if one else there
    unknown = [gpu for gpu in chosen if gpu not in there]
    if unknown:
        raise UserError(f"--gpus {gpus}: there is no {', '.join(unknown)}; there is {', '.join(there)}")
    return [{"CUDA_VISIBLE_DEVICES": chosen[slot % len(chosen)]} for slot in range(slots or len(chosen))]
