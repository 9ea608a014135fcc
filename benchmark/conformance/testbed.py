"""A small task on which a method is tried, one run that is watched, and what is kept where no checkpoint finds it."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.data.load import load_prepared
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import last_frame
from benchmark.method import Method
from benchmark.randomness import derive
from benchmark.registry import METHODS, OURS, own_classes, own_files
from benchmark.runs.request import Request, specify
from benchmark.spec import Spec
from benchmark.training.setup import Training, build_training

STEPS = 4
SMALL = {
    "data.size": 32, "train.steps": STEPS, "train.batch_labelled": 3, "train.batch_unlabelled": 3, "evaluate.times": 1,
}
EXACT = {"train.precision": "fp32", "train.deterministic": True}  # or no two runs on a GPU would be equal bit for bit
TORCHS_OWN = set(vars(nn.Module()))  # attributes that every module has
HARNESS = {"logged", "phase"}  # what the harness keeps on a method
MANY = 10_000  # entries of what a method keeps that are looked at


class Failure(Exception):
    """A method does not keep the contract."""


@dataclass
class MethodTestbed:
    """A method, and the data, the split and the device on which it is tried."""

    spec: Spec
    prepared: PreparedData
    split: Split
    device: torch.device

    @classmethod
    def of(cls, method: str, device: torch.device, **overrides: Any) -> MethodTestbed:
        """The testbed on the embedded images at 32 px, four steps; `overrides` are settings by their names."""
        exact = EXACT if device.type == "cuda" else {}
        request = Request(method, "synthetic", preset="demo", overrides=SMALL | exact | overrides)
        spec, split, *_ = specify(request, device.type)
        return cls(spec, load_prepared("synthetic", spec.values["data.size"]), split, device)

    def build(self, prepared: PreparedData | None = None) -> Training:
        """A fresh training; the same one every time."""
        return build_training(self.spec, prepared or self.prepared, self.split, self.device)

    def build_eager(self) -> Training:
        """The same without a CUDA graph: every step runs the method's own code."""
        training = self.build()
        training.step = getattr(training.step, "eager", training.step)
        return training

    @cached_property
    def observed(self) -> ObservedRun:
        """An undisturbed run of all steps, and what was seen of it."""
        return ObservedRun(self)

    @cached_property
    def reference(self) -> dict[str, Tensor]:
        """The method's state after such a run, captured where the device captures."""
        return self.observed.state if self.device.type == "cpu" else self.final_state()

    def final_state(self, prepared: PreparedData | None = None) -> dict[str, Tensor]:
        """The method's state after a run of all steps on these data."""
        training = self.build(prepared)
        advance(training, 0, STEPS)
        return frozen(training.method.state_dict())

    @cached_property
    def own_classes(self) -> list[type]:
        """The method's class and those of its ancestors that are not the harness's."""
        return own_classes(METHODS.load(self.spec.method))

    def place(self, error: BaseException) -> str:
        """The file, line and function of the method's own code that an exception passed last, in brackets, if any."""
        frame = last_frame(error, own_files(METHODS.load(self.spec.method)))
        return f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})" if frame else ""


class ObservedRun:
    """All steps of one training, and what the checks compare of it."""

    def __init__(self, testbed: MethodTestbed) -> None:
        before = global_generators()
        self.training = training = testbed.build_eager()
        self.logits_before = self.official_logits()
        method = training.method.train()
        tensors = {name: tensor.detach() for name, tensor in method.state_dict(keep_vars=True).items()}
        self.rows: list[dict[str, float]] = []
        self.not_finite: list[str | None] = []
        self.modes: list[dict[str, str]] = [modes(method)]
        self.kept: list[dict[str, Any]] = []
        self.reseeded = False
        for step in range(STEPS):
            self.rows += advance(training, step, 1)
            self.reseeded |= torch.initial_seed() != derive(testbed.spec.seed, "step", step)
            self.not_finite.append(not_finite(method))
            self.modes.append(modes(method))
            if step == 0:
                self.without_gradient = {id(p) for p in training.optimisers.parameters() if p.grad is None}
            if step + 1 in (STEPS // 2, STEPS):
                self.kept.append(kept_outside(method, testbed.own_classes))
        self.state, now = frozen(method.state_dict()), method.state_dict(keep_vars=True)
        self.replaced = [n for n in now if n not in tensors or now[n].data_ptr() != tensors[n].data_ptr()]
        self.logits_after = self.official_logits()
        self.generators = before, global_generators()

    def official_logits(self) -> tuple[str, Tensor]:
        """The name of the official output, and its logits of two test images."""
        evaluator, method = self.training.evaluator, self.training.method.eval()
        _, image, _ = next(evaluator.images(evaluator.lists["test"][:2]))
        return next(iter(evaluator.logits(method, image).items()))


def kept_outside(method: Method, classes: Sequence[type]) -> dict[str, Any]:
    """Attributes of its modules, of its classes and globals of their files, by name, in a form that may be compared."""
    found = {f"{owner}.{key}": value for owner, key, value in attributes(method)}
    for kind in classes:
        module = sys.modules[kind.__module__]
        file = Path(str(module.__file__)).name
        for where, names in ((f"{kind.__name__}.%s", vars(kind)), (f"global '%s' of {file}", vars(module))):
            found |= {where % key: value for key, value in names.items() if is_data(key, value)}
    return {name: comparable(value) for name, value in found.items()}


def unregistered(method: Method) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Tensors and modules in attributes, or in the lists and mappings that these are."""
    for owner, key, value in attributes(method):
        inside = [value]
        for held in inside:
            if isinstance(held, Tensor | nn.Module):
                yield f"{owner}.{key}", held
            elif isinstance(held, Mapping | list | tuple) and len(inside) < MANY:
                inside += held.values() if isinstance(held, Mapping) else held


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


def comparable(value: Any) -> Any:
    """A number or text as it is, anything else as a digest that is equal where nothing changed; addresses do not
    count."""
    if isinstance(value, int | float | str | None):
        return value
    stream = io.BytesIO()
    try:
        pickler = _Snapshot(stream)
        pickler.fast = True  # whether equal parts are one object says nothing
        pickler.dump(value)
    except Exception:  # whatever an object of somebody else's raises when it cannot be written
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return hashlib.sha256(stream.getvalue()).hexdigest()


class _Snapshot(pickle.Pickler):
    """Writes tensors and generators by their bytes, and nothing of modules and of what is torch's or the harness's."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Generator):
            value = value.get_state()
        if isinstance(value, Tensor):
            return bytes, (value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes(),)
        if isinstance(value, nn.Module) or type(value).__module__.partition(".")[0] in OURS:
            return str, ()
        return NotImplemented


def advance(training: Training, first: int, count: int) -> list[dict[str, float]]:
    """Take steps; the logged values of each."""
    rows = []
    for step, plan in enumerate(training.plans(first, count), start=first):
        training.enter_step(step)
        values = training.step(plan).tolist()
        rows.append(dict(zip(training.step.names, values, strict=True)))
    return rows


def differences(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not bitwise equal, or that only one of the two has."""
    names = [*first, *(name for name in second if name not in first)]
    return [n for n in names if n not in first or n not in second or not torch.equal(first[n], second[n])]


def frozen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a state dict that training does not move."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def not_finite(method: Method) -> str | None:
    """The first parameter that is not finite, or whose gradient is not."""
    for name, parameter in method.named_parameters():
        for what, values in ((f"the gradient of '{name}'", parameter.grad), (f"'{name}'", parameter)):
            if values is not None and not bool(torch.isfinite(values).all()):
                return what
    return None


def modes(method: Method) -> dict[str, str]:
    """The mode of every module, and whether every parameter asks for gradients."""
    found = {f"'{name or 'the method'}'": f"in {'training' if module.training else 'evaluation'} mode"
             for name, module in method.named_modules()}
    return found | {f"parameter '{name}'": f"{'with' if parameter.requires_grad else 'without'} gradients"
                    for name, parameter in method.named_parameters()}


def global_generators() -> dict[str, bytes]:
    """The state of the generators that nobody seeds for a run."""
    return {"Python's random": pickle.dumps(random.getstate()),
            "NumPy's global generator": pickle.dumps(np.random.get_state())}
