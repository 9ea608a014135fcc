"""A whole training step as one CUDA graph: captured once a phase, then replayed."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmark.method import Method
from benchmark.training.device import forget_peak
from benchmark.training.step import Plan, TrainStep, flop_counter

WARM_UP = 3


class CudaGraphStep:
    """Replays a TrainStep from static buffers; a plan is copied into them first.

    Capture needs some eager steps to settle the libraries; whatever those change (weights, momentum, BatchNorm's
    statistics, the clock) is put back, so that a captured run computes what an eager one does. There is one graph at a
    time: it holds the memory of a whole step, and a phase that has ended does not return.
    """

    def __init__(self, step: TrainStep) -> None:
        self.eager = step
        self.flops = 0
        self.phase = ""
        self.graph: tuple[torch.cuda.CUDAGraph, Plan, Tensor] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.eager, name)

    def __call__(self, plan: Plan) -> Tensor:
        """One step; returns a copy of the logged values."""
        phase = self.eager.method.phase
        if self.graph is None or self.phase != phase:
            self.graph = None  # gives its memory back
            self.graph, self.phase = self._capture(plan), phase
        graph, static, values = self.graph
        for stream, fields in plan.items():
            for name, field in fields.items():
                static[stream][name].copy_(field, non_blocking=True)
        graph.replay()
        return values.clone()

    def _capture(self, plan: Plan) -> tuple[torch.cuda.CUDAGraph, Plan, Tensor]:
        device = self.eager.device
        gc.collect()  # what is garbage now must not be freed, and its graph not destroyed, while capture goes on
        static = {stream: {k: field.clone() for k, field in fields.items()} for stream, fields in plan.items()}
        saved = self.snapshot()
        random = torch.cuda.get_rng_state(device)
        side, current = side_stream(device), torch.cuda.current_stream(device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            with flop_counter() as counter:
                self.eager(static)
            if not self.flops:
                forget_peak(device)  # of a later phase the earlier one's counts, too
            self.flops = counter.get_total_flops()
            for _ in range(WARM_UP - 1):
                self.eager(static)
        current.wait_stream(side)
        self.restore(saved)
        self.eager.optimisers.zero_grad()
        graph = torch.cuda.CUDAGraph()
        cause = None
        try:
            with torch.cuda.graph(graph, stream=side):
                try:
                    values = self.eager(static)
                except Exception as error:
                    cause = error
                    raise
        except Exception as error:  # what ends a broken capture raises an error of its own over the cause
            raise cause or error from None
        torch.cuda.set_rng_state(random, device)
        return graph, static, values

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"method.{name}": t for name, t in self.eager.method.state_dict(keep_vars=True).items()}
        tensors |= {"clock.step": self.eager.clock.step, "clock.stopped": self.eager.clock.stopped}
        for number, optimiser in enumerate(self.eager.optimisers.optimisers):
            for group in optimiser.param_groups:
                for place, parameter in enumerate(group["params"]):
                    for key, value in optimiser.state.get(parameter, {}).items():
                        if isinstance(value, Tensor):
                            tensors[f"optimiser.{number}.{place}.{key}"] = value
        return tensors

    def snapshot(self) -> dict[str, Tensor]:
        """Copies on the host: on the device they would count as the run's own peak memory."""
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def restore(self, saved: dict[str, Tensor]) -> None:
        """Copy back in place; optimiser state that warm-up created starts at zero, as a lazy start would."""
        for name, tensor in self._tensors().items():
            if name in saved:
                tensor.copy_(saved[name])
            else:
                tensor.zero_()


def why_eager(name: str, method: Method) -> str:
    """One line on a method that is not captured though the run asks for it."""
    return f"{name} runs step by step, without a CUDA graph: {method.cuda_graph_reason or 'it says cuda_graph = False'}"


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """Where warm-up and capture happen: one a process, since libraries keep a workspace for every stream they see."""
    return torch.cuda.Stream(device)
