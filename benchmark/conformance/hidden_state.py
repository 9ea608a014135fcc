"""What a method keeps outside parameters and buffers, where no checkpoint finds it."""

from __future__ import annotations

import collections
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.method import Method

TORCHS_OWN = set(vars(nn.Module()))  # attributes that every module has
HARNESS = {"logged", "phase"}  # what the harness keeps on a method
DEPTH = 4  # of what is looked into


def kept_outside(method: Method, classes: Sequence[type]) -> dict[str, Any]:
    """Attributes of its modules, of its classes and globals of their files, by name, in a form that may be compared."""
    found = {f"{owner}.{key}": value for owner, key, value in attributes(method)}
    for kind in classes:
        found |= {f"{kind.__name__}.{key}": value for key, value in vars(kind).items() if is_data(key, value)}
        module = sys.modules[kind.__module__]
        file = Path(str(module.__file__)).name
        found |= {f"global '{key}' of {file}": v for key, v in vars(module).items() if is_data(key, v)}
    return {name: comparable(value) for name, value in found.items()}


def unregistered(method: Method) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Tensors and modules in attributes, or in the lists and mappings that these are."""
    for owner, key, value in attributes(method):
        for held in _held_by(value):
            yield f"{owner}.{key}", held


def attributes(method: Method) -> Iterator[tuple[str, str, Any]]:
    """Every module's attributes that are neither parameters, buffers nor modules, and not torch's or the harness's."""
    for path, module in method.named_modules():
        owner = ".".join(filter(None, ("self", path)))
        for key, value in vars(module).items():
            if key not in TORCHS_OWN | HARNESS:
                yield owner, key, value


def is_data(key: str, value: Any) -> bool:
    """Whether a name of a class or a module stands for data, not for code."""
    return not (key.startswith("__") or callable(value) or isinstance(value, ModuleType | property | staticmethod))


def comparable(value: Any, depth: int = DEPTH) -> Any:
    """A value as something that is equal where nothing changed; addresses do not count."""
    if isinstance(value, Tensor):
        return hash(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if isinstance(value, np.ndarray):
        return hash(value.tobytes())
    if isinstance(value, torch.Generator | random.Random):
        return comparable(value.get_state() if isinstance(value, torch.Generator) else value.getstate())
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if depth and isinstance(value, Mapping):
        return {str(key): comparable(entry, depth - 1) for key, entry in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset | collections.deque):
        return [comparable(entry, depth - 1) for entry in value]
    foreign = type(value).__module__.partition(".")[0] not in ("benchmark", "torch")
    if depth and foreign and hasattr(value, "__dict__") and not callable(value):
        return {key: comparable(entry, depth - 1) for key, entry in vars(value).items()}
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value)) if foreign else ""


def _held_by(value: Any, depth: int = DEPTH) -> Iterator[Tensor | nn.Module]:
    if isinstance(value, Tensor | nn.Module):
        yield value
        return
    if isinstance(value, Mapping):
        value = list(value.values())
    for entry in value if depth and isinstance(value, list | tuple) else ():
        yield from _held_by(entry, depth - 1)
