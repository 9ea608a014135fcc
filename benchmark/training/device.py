"""The device, its numerics, and what a record says of the machine."""

from __future__ import annotations

import gc
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from benchmark import machine
from benchmark.errors import UserError

UNUSABLE = "there is a GPU, but CUDA does not start (its driver may be too old for this torch)"
logger = logging.getLogger(__name__)


def choose(name: str, must_exist: bool = True) -> torch.device:
    """`auto` is a GPU where there is one; a device that is not there is a mistake, unless it may be elsewhere."""
    if name == "auto":
        found = torch.cuda.is_available()
        if not found and torch.cuda.device_count():
            logger.warning(f"warning: {UNUSABLE}; the CPU is used")
        return torch.device("cuda" if found else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: not a device; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: only cpu and cuda are supported")
    if must_exist and device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu")
    if must_exist and device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: {UNUSABLE}; install a torch for it, or use --device cpu")
    return device


def resolve(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What `auto` means on this kind of device: part of a run's identity, as the device's name is not."""
    cuda = kind == "cuda"
    answers = {
        "train.precision": "bf16" if cuda else "fp32",
        "train.memory_format": "channels_last",
        "train.capture": "on" if cuda else "off",
    }
    return {key: answer if values[key] == "auto" else values[key] for key, answer in answers.items()}


def configure(device: torch.device, threads: int, deterministic: bool) -> None:
    """Threads, determinism, TF32 and cuDNN autotuning, all said explicitly."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    if device.type == "cuda":
        torch.cuda.init()  # the allocator answers nothing before
        if device.index is not None:  # torch sets none without a number, which is the current one
            torch.cuda.set_device(device)  # graphs and streams act on the current device
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = not deterministic
        torch.backends.cudnn.allow_tf32 = not deterministic
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cuda.enable_cudnn_sdp(False)  # it has no gradient for a bias that is learned, as in MaxViT


@contextmanager
def without_tuning() -> Iterator[None]:
    """Without cuDNN's autotuning, which costs seconds for every new shape and takes all free memory: for shapes that
    come seldom. What is tuned already stays in use."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def environment(device: torch.device) -> dict[str, Any]:
    """Names and versions for the record."""
    return {
        "device": name(device),
        "device_type": device.type,
        "processor": machine.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else None,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "python": platform.python_version(),
        "platform": platform.system() + "-" + platform.machine(),
    }


def name(device: torch.device) -> str | None:
    """What the device is called; None for a GPU that is not in this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else None
    return str(machine.processor()["brand"])


def memory(device: torch.device) -> int:
    """Bytes that a run may hope for: those of a GPU that nobody else has taken, or all of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return machine.memory()


def clear(device: torch.device) -> None:
    """Free what earlier runs of this process have left on a GPU, and count the most memory in use from here on."""
    if device.type == "cuda":
        gc.collect()  # a run's objects may hold each other
        torch.cuda.empty_cache()
        forget_peak(device)


def forget_peak(device: torch.device) -> None:
    """Count the most memory in use from here on: what autotuning took is no part of a step."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def settle(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def own_seconds(device: torch.device, work: Callable[[], Any]) -> float:
    """How long `work` takes where other work on the machine has no part in it."""
    return both_seconds(device, work)[1]


def both_seconds(device: torch.device, work: Callable[[], Any]) -> tuple[float, float]:
    """How long `work` takes, all of it on the device included, and `own_seconds`: on a CPU, of this process alone."""
    settle(device)
    begun, had = time.perf_counter(), time.process_time()
    work()
    settle(device)
    passed = time.perf_counter() - begun
    return passed, time.process_time() - had if device.type == "cpu" else passed
