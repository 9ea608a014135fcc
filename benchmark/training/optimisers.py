"""Optimisers and schedules: fused kernels, learning rates as tensors, and a latch that stops updates at a bad loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmark.config.schema import Optimiser
from benchmark.errors import UserError, suggest
from benchmark.method import Method, Phase

SCHEDULES = ("cosine", "step", "poly", "constant")
KINDS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def factor(schedule: str, settings: Optimiser, step: int, steps: int) -> float:
    """The share of the learning rate at `step` of `steps`: linear warm-up, never 0, then the schedule."""
    warmup = settings.warmup * steps if schedule != "constant" else 0.0
    if step + 1 < warmup:
        return (step + 1) / warmup
    done = min(1.0, max(0.0, (step - warmup) / max(1.0, steps - warmup)))
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "poly":
        return (1 - done) ** 0.9
    if schedule == "step":
        return settings.decay ** int((step - warmup) / (settings.decay_every * steps))
    return 1.0


def schedule_spans(phases: Mapping[str, Phase], steps: int) -> list[range]:
    """The steps of every run of the learning rates' schedules: one of all, unless a phase has a fresh one."""
    starts = {0, *(math.ceil(phase.start * steps) for phase in phases.values() if phase.fresh_schedule)}
    ordered = sorted(starts)
    return [range(first, end) for first, end in zip(ordered, [*ordered[1:], steps], strict=True)]


class Optimisers:
    """The optimisers of one method. `found_inf` set to 1 makes every step an exact no-op, on the device."""

    def __init__(self, method: Method, settings: Optimiser, steps: int, device: torch.device) -> None:
        self.settings, self.schedules = settings, schedule_spans(method.phases, steps)
        self.found_inf = torch.zeros((), device=device)
        cuda = device.type == "cuda"  # Adam's step counters live on the device, or a graph could not hold them
        self.optimisers: list[torch.optim.Optimizer] = []
        self.rates: list[tuple[Tensor, float, str]] = []
        seen: set[int] = set()
        for group in method.param_groups():
            parameters = list(group.parameters)
            if any(id(parameter) in seen for parameter in parameters):
                raise UserError(f"{type(method).__name__}.param_groups() gives a parameter to two optimisers")
            seen.update(map(id, parameters))
            name, schedule = group.optimiser or settings.name, group.schedule or settings.schedule
            for given, known in ((name, KINDS), (schedule, SCHEDULES)):
                if given not in known:
                    where = f"{type(method).__name__}.param_groups()"
                    raise UserError(f"{where}: unknown '{given}'.{suggest(given, known)}")
            base = settings.lr if group.lr is None else group.lr
            decay = settings.weight_decay if group.weight_decay is None else group.weight_decay
            rate = torch.tensor(base, dtype=torch.float32, device=device)
            extra: dict[str, Any] = {"momentum": settings.momentum} if name == "sgd" else {"capturable": cuda}
            optimiser = KINDS[name](parameters, lr=rate, weight_decay=decay, fused=True, **extra)
            optimiser.found_inf = self.found_inf  # the fused kernels read it, as they do for GradScaler
            optimiser._warned_capturable_if_run_uncaptured = True  # it is, while a capture is warmed up
            self.optimisers.append(optimiser)
            self.rates.append((rate, base, schedule))

    def rates_at(self, step: int) -> list[float]:
        """The learning rate of every group at `step`."""
        steps = next(steps for steps in reversed(self.schedules) if step >= steps.start)
        place, length = step - steps.start, len(steps)
        return [base * factor(schedule, self.settings, place, length) for _, base, schedule in self.rates]

    def step(self, rates: Tensor) -> None:
        """One update of every group with these learning rates [groups]."""
        for (rate, _, _), value in zip(self.rates, rates.unbind(), strict=True):
            rate.copy_(value)
        for optimiser in self.optimisers:
            optimiser.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Forget moments and step counters, as for a fresh optimiser."""
        for optimiser in self.optimisers:
            optimiser.state.clear()

    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that is trained."""
        return [p for optimiser in self.optimisers for group in optimiser.param_groups for p in group["params"]]

    def state_dict(self) -> list[dict[str, Any]]:
        """Momentum and step counters; the rates follow from the step."""
        return [{"state": optimiser.state_dict()["state"]} for optimiser in self.optimisers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Put back what `state_dict` gave."""
        for optimiser, saved, (rate, _, _) in zip(self.optimisers, states, self.rates, strict=True):
            optimiser.load_state_dict(optimiser.state_dict() | {"state": saved["state"]})
            for group in optimiser.param_groups:
                group["lr"] = rate
