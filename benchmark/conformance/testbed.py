"""A small task on which a method is tried, and what every check of it needs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType, TracebackType

import torch
from torch import Tensor

from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.method import Method
from benchmark.registry import METHODS
from benchmark.spec import Spec
from benchmark.training.setup import Training, build_training

STEPS = 4


class Failure(Exception):
    """A method does not keep the contract."""


@dataclass
class MethodTestbed:
    """A small task on which a method is tried."""

    spec: Spec
    prepared: PreparedData
    split: Split
    device: torch.device

    def build(self, prepared: PreparedData | None = None) -> Training:
        """A fresh training; the same one every time."""
        return build_training(self.spec, prepared or self.prepared, self.split, self.device)

    def build_eager(self) -> Training:
        """The same, whose every step runs the method's own code, be it on a GPU; for watching what that does."""
        training = self.build()
        training.step = getattr(training.step, "eager", training.step)
        return training

    @cached_property
    def reference(self) -> dict[str, Tensor]:
        """The method's state after an undisturbed run of all steps."""
        return self.outcome()

    def outcome(self, prepared: PreparedData | None = None) -> dict[str, Tensor]:
        """The method's state after a run of all steps on these data."""
        training = self.build(prepared)
        advance(training, 0, STEPS)
        return frozen(training.method.state_dict())

    @cached_property
    def own_classes(self) -> list[type]:
        """The method's class and those of its ancestors that are not the harness's."""
        return [kind for kind in METHODS.load(self.spec.method).__mro__[:-1] if not is_ours(kind.__module__)]

    @cached_property
    def own_files(self) -> frozenset[str]:
        """The files that these are written in."""
        return frozenset(inspect.getfile(kind) for kind in self.own_classes)

    def blame(self, frames: TracebackType | FrameType | None) -> str:
        """" (file, line, function)" of the method's own code that a traceback passed last, or that led to a frame.

        Empty where none of it is on the way.
        """
        passed = list(_frames(frames))
        lines = [(frame.f_code, line) for frame, line in passed if frame.f_code.co_filename in self.own_files]
        if not lines:
            return ""
        code, line = lines[-1]
        return f" ({Path(code.co_filename).name}, line {line}, in {code.co_name})"


def _frames(start: TracebackType | FrameType | None) -> Iterator[tuple[FrameType, int]]:
    """Frames with their lines, the outermost first."""
    if isinstance(start, FrameType):
        yield from _frames(start.f_back)
        yield start, start.f_lineno
    while isinstance(start, TracebackType):
        yield start.tb_frame, start.tb_lineno
        start = start.tb_next


def is_ours(module: str) -> bool:
    """Whether a module belongs to the harness or to PyTorch."""
    return module.partition(".")[0] in {"benchmark", "torch", "builtins"}


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
    return [name for name in {**first, **second} if not _equal(first.get(name), second.get(name))]


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


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
