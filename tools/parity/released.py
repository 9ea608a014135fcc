"""Parts of a released script, run here on the CPU with names and inputs of ours; and what is compared."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.losses import cross_entropy, one_hot
from benchmark.method import Task

QUIET = SimpleNamespace(info=lambda *_: None, add_scalar=lambda *_: None)


@dataclass
class Row:
    """One comparison: two numbers, or the means of two tensors and their largest difference; `why` they differ."""

    what: str
    released: float
    ours: float
    apart: float
    why: str


class Replayed:
    """Stands for a network: answers its calls with these outputs, in order, and keeps the inputs."""

    def __init__(self, *outputs: Any) -> None:
        self.outputs, self.seen = iter(outputs), []

    def __call__(self, image: Any = None, **_: Any) -> Any:
        self.seen.append(image)
        return next(self.outputs)

    def parameters(self) -> list[nn.Parameter]:
        return []

    def train(self) -> None: ...

    def eval(self) -> None: ...


class Released:
    """A script, as a tree: definitions and its training step are run apart from the rest of it."""

    def __init__(self, path: Path, **names: Any) -> None:
        self.body = ast.parse(path.read_text(encoding="utf-8")).body
        self.names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "np": np, "math": math, **names}

    def take(self, *wanted: str) -> Any:
        """Run these top-level definitions; returns the last one."""
        for node in self.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in wanted:
                self._run([node])
        return self.names[wanted[-1]]

    def step(self, function: str | None = None, **inputs: Any) -> SimpleNamespace:
        """Run the training loop of a function, or of the whole script, up to `optimizer.zero_grad()`: all its names."""
        self.names |= inputs
        nodes = [node for node in self.body if function is None or getattr(node, "name", "") == function]
        for loop in (part for node in nodes for part in ast.walk(node) if isinstance(part, ast.For)):
            lines = [ast.unparse(line) for line in loop.body]
            if "optimizer.zero_grad()" in lines:
                loop.body = loop.body[: lines.index("optimizer.zero_grad()")]
                self._run([loop])
                return SimpleNamespace(**self.names)
        raise LookupError("no loop with optimizer.zero_grad()")

    def _run(self, nodes: list[ast.stmt]) -> None:
        exec(compile(ast.Module(nodes, []), "released", "exec"), self.names)


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """`.cuda()` does nothing, and new tensors are of float64."""
    def stay(self: Any, *_: Any, **__: Any) -> Any:
        return self

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with patch.object(torch.Tensor, "cuda", stay), patch.object(nn.Module, "cuda", stay):
        yield
    torch.set_default_dtype(before)


def task(classes: int = 2, size: int = 48) -> Task:
    return Task(classes=classes, size=size, labelled=4, unlabelled=8, images=12, net="unet_small")


def total(method: Any, labelled: Any, unlabelled: Any, clock: Any) -> dict[str, float]:
    """Every term of a step, and their sum `L`."""
    answer = method.losses(labelled, unlabelled, clock)
    parts = [answer] if isinstance(answer, dict) else answer
    found = {name: term.item() for part in parts for name, term in part.items()}
    return {**found, "L": sum(found.values())}


def row(what: str, released: Any, ours: Any, why: str = "") -> Row:
    first, second = (torch.as_tensor(value, dtype=torch.float64) for value in (released, ours))
    apart = (first - second).abs().max().item()
    return Row(what, first.mean().item(), second.mean().item(), apart, why)


def batch_dice(*, numerator: float = 2.0, smooth: float = 1e-10, first: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """The Dice of the DTC family: sums over the whole batch, for each class from `first` on, then the mean."""
    def loss(logits: Tensor, target: Tensor) -> Tensor:
        hot, valid = one_hot(target, logits.shape[1])
        p, y = (part.movedim(1, 0).flatten(1)[first:] for part in (logits.softmax(1) * valid, hot & valid))
        overlap, mass = (p * y).sum(1), p.square().sum(1) + y.sum(1)
        extra = smooth if numerator == 2 else 0.0
        return (1 - (numerator * overlap + extra) / (mass + smooth)).mean()

    return loss


def plus_cross_entropy(dice: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, target: cross_entropy(logits, target) + dice(logits, target)
