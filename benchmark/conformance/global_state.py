"""What a process shares with whoever runs in it: switches and generators, to be compared and put back."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def _replace(there: MutableMapping[str, str], value: dict[str, str]) -> None:
    there.clear()
    there.update(value)


SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "cuDNN's benchmark flag": (
        lambda: torch.backends.cudnn.benchmark, lambda value: setattr(torch.backends.cudnn, "benchmark", value)
    ),
    "cuDNN's deterministic flag": (
        lambda: torch.backends.cudnn.deterministic, lambda value: setattr(torch.backends.cudnn, "deterministic", value)
    ),
    "the folder that the process is in": (os.getcwd, os.chdir),
    "the environment": (lambda: dict(os.environ), lambda value: _replace(os.environ, value)),
    "the generator of Python's random": (random.getstate, random.setstate),
    "NumPy's global generator": (np.random.get_state, np.random.set_state),
}
SEED = "the seed of torch's generator"


def surroundings() -> dict[str, bytes]:
    """Every switch and generator by name, and the seed of torch's; as bytes, which may be compared."""
    found = {name: pickle.dumps(read()) for name, (read, _) in SWITCHES.items()}
    return found | {SEED: pickle.dumps(torch.initial_seed())}


def described(name: str, before: bytes, after: bytes) -> str:
    """What became of a switch, where that can be said in a few words."""
    one, other = repr(pickle.loads(before)), repr(pickle.loads(after))
    return f"{name} ({one} becomes {other})" if len(one) + len(other) < 60 else name


@contextmanager
def put_back() -> Iterator[None]:
    """Whatever is changed inside is as before afterwards."""
    before = surroundings()
    try:
        yield
    finally:
        after = surroundings()
        for name, (_, write) in SWITCHES.items():
            if before[name] != after[name]:
                write(pickle.loads(before[name]))
