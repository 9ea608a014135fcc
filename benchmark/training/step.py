"""One training step, the only place where a method's losses meet its optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from benchmark.errors import UserError
from benchmark.method import Clock, Method
from benchmark.numerics import Numerics
from benchmark.training.optimisers import Optimisers

Plan = Mapping[str, Mapping[str, Tensor]]


class TrainStep:
    """Render, losses, backward, optimiser, after_step; nothing is read back to the host.

    A loss that is not finite sets the clock's `stopped` latch before the optimiser runs; from then on neither
    parameters nor averages move. The host finds out when it reads the logged terms, every so many steps.
    """

    def __init__(
        self, method: Method, clock: Clock, renderers: Mapping[str, Callable[[Any], Any]], optimisers: Optimisers,
        numerics: Numerics,
    ) -> None:
        self.method, self.clock, self.renderers, self.optimisers = method, clock, renderers, optimisers
        self.numerics, self.device = numerics, numerics.device
        self.terms = 0  # how many of the names are losses; the rest is logged beside them
        self.names_by_phase: dict[str, list[str]] = {}

    @property
    def names(self) -> list[str]:
        """Names of the logged values, in order, in the method's present phase."""
        return self.names_by_phase.get(self.method.phase, [])

    def batches(self, plan: Plan) -> dict[str, Any]:
        """The rendered batch of every stream."""
        with torch.no_grad():
            return {stream: render(plan[stream]) for stream, render in self.renderers.items()}

    def learn(self, batches: Mapping[str, Any]) -> dict[str, Tensor]:
        """Losses and their gradients on rendered batches; the terms by name."""
        terms: dict[str, Tensor] = {}
        for part in self.parts(batches):
            loss = torch.stack([term.float() for term in part.values()]).sum()
            if loss.requires_grad:
                loss.backward()
            terms.update({name: term.detach() for name, term in part.items()})
        return terms

    def parts(self, batches: Mapping[str, Any]) -> Iterator[Mapping[str, Tensor]]:
        """The method's parts, its forward code under autocast and ours between them outside of it."""
        with self.numerics.autocast():
            unlabelled: Any = batches.get("unlabelled")
            answer = self.method.losses(batches["labelled"], unlabelled, self.clock)
        if isinstance(answer, Mapping):
            yield answer
            return
        while True:
            with self.numerics.autocast():
                part = next(answer, None)
            if part is None:
                return
            yield part

    def update(self, terms: Mapping[str, Tensor], rates: Tensor) -> Tensor:
        """Latch, optimise, average, tick; returns all logged values as one vector [terms + logged]."""
        values = torch.stack([term.float() for term in terms.values()])
        self.clock.stopped.logical_or_(~torch.isfinite(values).all())
        self.optimisers.found_inf.copy_(self.clock.stopped)
        self.optimisers.step(rates)
        with torch.no_grad():
            self.method.after_step(self.clock)
            self.clock.step.add_(1)
        logged = self.method.logged
        names = [*terms, *logged]
        if strange := [name for name in names if not isinstance(name, str)]:
            raise UserError(f"{type(self.method).__name__}: the name of a loss must be text, as in 'supervised', not "
                            f"{strange[0]!r}")
        if names != self.names_by_phase.setdefault(self.method.phase, names):
            raise UserError(f"{type(self.method).__name__}.losses() names other terms than before: {names}")
        self.terms = len(terms)
        return torch.cat([values, torch.stack([v.float() for v in logged.values()])]) if logged else values

    def __call__(self, plan: Plan) -> Tensor:
        """One whole step by a plan of device tensors, with the learning rates under `optimiser`/`rates`."""
        self.optimisers.zero_grad()
        self.method.logged.clear()
        return self.update(self.learn(self.batches(plan)), plan["optimiser"]["rates"])


def flop_counter() -> FlopCounterMode:
    """Counts floating-point operations while it is entered; right for grouped convolutions, as torch's own is not."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _convolution_backward(
    gradient_shape: list[int], x_shape: list[int], weight_shape: list[int], _bias: Any, _stride: Any, _padding: Any,
    _dilation: Any, transposed: bool, _output_padding: Any, _groups: int, output_mask: list[bool], **_: Any,
) -> int:
    """The gradient of the input and that of the weight take as many operations as the convolution itself, each.

    A weight's shape holds the channels of one group, so groups need no further care.
    """
    return conv_flop_count(x_shape, weight_shape, gradient_shape, transposed) * sum(output_mask[:2])
