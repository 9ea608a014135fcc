"""The only training loop, readable from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from benchmark.errors import Interrupted, UserError
from benchmark.method import Method, named_logits
from benchmark.training import device as devices
from benchmark.training.cuda_graph import CudaGraphStep
from benchmark.training.setup import Training, as_cpu
from benchmark.training.step import flop_counter

BLOCK = 16  # steps between two looks at the losses
CHECKPOINT = 3  # of the checkpoint's own form
CHECKPOINT_SECONDS = 30.0  # between two of a run's checkpoints
RESTART_IF_CHANGED = ("schema", "data", "split", "numerics")  # between two commands; all else would be another run


class RunStore(Protocol):
    """Where a run leaves its checkpoint and its log."""

    def load_checkpoint(self) -> dict[str, Any] | None: ...
    def save_checkpoint(self, state: dict[str, Any]) -> None: ...
    def start_log(self, step: int) -> None: ...
    def log(self, lines: list[dict[str, Any]]) -> None: ...
    def log_scores(self, step: int, scores: dict[str, float]) -> None: ...


class StaleCheckpoint(UserError):
    """The checkpoint was made by other code, or with other data or lists: its run can only start anew."""


@dataclass
class TrainResult:
    """How training ended: `done`, or `diverged` with the step and the term that was not finite."""

    status: str
    reason: str | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[str, dict[str, Any]] = field(default_factory=dict)  # scores on other data, by its name
    environments: list[dict[str, Any]] = field(default_factory=list)  # that it was made in, each once


@dataclass
class TrainState:
    """What survives an interruption beside the module, the optimisers and the evaluator."""

    step: int = 0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    flops: int = 0  # of all steps so far
    flops_a_step: int = 0  # in the current phase
    sums: dict[str, float] = field(default_factory=dict)  # of each logged value since the last evaluation
    logged: dict[str, int] = field(default_factory=dict)  # how often: a phase may log what others do not
    history: list[dict[str, Any]] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=list)  # that it has run in, each once


def evaluation_steps(steps: int, times: int) -> list[int]:
    """The steps after which a run is evaluated: evenly spread, the last one included."""
    times = min(times, steps)
    return sorted({max(1, round(steps * (k + 1) / times)) for k in range(times)})


def train(
    training: Training, store: RunStore, *, asked_to_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[int, int, dict[str, float], float], None] = lambda *_: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainResult:
    """Train to the end, or from the last checkpoint to the end; Interrupted when asked to stop, with all saved.

    `tell` hears after every block: step, all steps, mean losses since the last evaluation, seconds so far with
    evaluations.
    """
    evaluations = evaluation_steps(training.steps, training.evaluator.settings.times)
    training.evaluator.check(training.method)
    state = resume(training, store)
    if (here := devices.environment(training.device)) not in state.environments:
        state.environments.append(here)
    begun = saved_at = time.perf_counter()
    wall_before, pause = state.wall_seconds, checkpoint_seconds
    per_image: dict[str, np.ndarray] = {}
    training.method.train()
    while state.step < training.steps:
        goal = next(step for step in evaluations if step > state.step)
        count = min(BLOCK, goal - state.step, training.phase_ends(state.step) - state.step)
        bad = run_block(training, state, store, count, asked_to_stop)
        if bad is None and state.step == goal and not weights_are_finite(training):
            bad = f"a weight was not finite after step {state.step} of {training.steps}"  # whose losses may be finite
        if bad is not None:
            return TrainResult("diverged", bad, history=state.history, cost=cost(training, state),
                               environments=state.environments)
        means = {name: total / state.logged[name] for name, total in state.sums.items()}
        if state.step == goal:
            per_image = training.evaluator.evaluate(training.method, state.step)
            store.log_scores(state.step, training.evaluator.last_scores())
            state.history.append({"step": state.step} | means)
            state.sums, state.logged = {}, {}
        now = time.perf_counter()
        state.wall_seconds = wall_before + now - begun
        tell(state.step, training.steps, means, state.wall_seconds)
        stopping = asked_to_stop() and state.step < training.steps
        if (stopping or now - saved_at > pause) and state.step < training.steps and weights_are_finite(training):
            save(training, store, state)
            saved_at = time.perf_counter()
            pause = max(checkpoint_seconds, 20 * (saved_at - now))  # at most a twentieth of the time goes into saving
        if stopping:
            raise Interrupted(f"stopped after step {state.step} of {training.steps}; the same command continues it")
    counts, masks = training.evaluator.finalise(training.method, per_image)
    state.wall_seconds = wall_before + time.perf_counter() - begun
    return TrainResult("done", None, counts, masks, state.history, cost(training, state),
                       environments=state.environments)


def run_block(
    training: Training, state: TrainState, store: RunStore, count: int, asked_to_stop: Callable[[], bool]
) -> str | None:
    """Some steps, then one look at their losses; tells which term was not finite, if any."""
    started = time.perf_counter()
    plans, values, first = training.plans(state.step, count), [], state.step
    for plan in plans:
        if state.step in (0, training.phase_ends(state.step - 1)):
            values.append(first_step(training, plan, state))
        else:
            training.enter_step(state.step)
            values.append(training.step(plan))
        state.flops += state.flops_a_step
        state.step += 1
        if asked_to_stop():
            break
    rows = torch.stack(values).tolist()
    state.train_seconds += time.perf_counter() - started
    names, terms = training.step.names, training.step.terms
    lines, trouble = [], None
    for offset, row in enumerate(rows):
        line: dict[str, Any] = {"step": first + offset + 1}
        for place, (name, value) in enumerate(zip(names, row, strict=True)):
            finite = math.isfinite(value)
            if not finite and place < terms and trouble is None:
                trouble = f"'{name}' was {value} at step {first + offset + 1} of {training.steps}"
            if finite:
                state.sums[name] = state.sums.get(name, 0.0) + value
                state.logged[name] = state.logged.get(name, 0) + 1
            line[name] = value if finite else None
        lines.append(line)
    store.log(lines)
    return trouble


def weights_are_finite(training: Training) -> bool:
    """Whether every trained parameter is; asked seldom, since the host must wait for the answer."""
    return bool(torch.stack([torch.isfinite(p).all() for p in training.optimisers.parameters()]).all())


def first_step(training: Training, plan: Any, state: TrainState) -> torch.Tensor:
    """The first step of a phase and what comes before it, with their floating-point operations counted (multiply and
    add are two). The other steps of the phase take as many as this one."""
    with flop_counter() as before:
        training.enter_step(state.step)
    state.flops += before.get_total_flops()
    if isinstance(training.step, CudaGraphStep):  # counted in its eager warm-up
        values = training.step(plan)
        state.flops_a_step = training.step.flops
        return values
    with flop_counter() as counter:
        values = training.step(plan)
    if state.step == 0:
        devices.forget_peak(training.device)
    state.flops_a_step = counter.get_total_flops()
    return values


def save(training: Training, store: RunStore, state: TrainState) -> None:
    """One checkpoint: everything that the rest of the run depends on."""
    store.save_checkpoint({
        "identity": identity(training),
        "method": as_cpu(training.method.state_dict()),
        "optimisers": as_cpu(training.optimisers.state_dict()),
        "evaluator": training.evaluator.state_dict(),
        "progress": dict(vars(state)),
    })


def identity(training: Training) -> dict[str, Any]:
    """What a checkpoint must share with the run that continues from it."""
    spec = training.spec
    return {
        "schema": CHECKPOINT, "run_id": spec.run_id, "data": training.prepared.arrays_fingerprint,
        "split": training.split.fingerprint, "device": training.device.type,
        "numerics": training.versions,
    }


def resume(training: Training, store: RunStore) -> TrainState:
    """Continue from the checkpoint where there is one; log and counts are cut back to its step."""
    saved = store.load_checkpoint()
    state = TrainState()
    if saved is not None:
        name, wanted = training.spec.run_id, identity(training)
        found = saved.get("identity") if isinstance(saved, dict) else None
        differ = [key for key, value in wanted.items() if not isinstance(found, dict) or found.get(key) != value]
        if differ:
            made = f"the checkpoint of {name} was made with another {differ[0]}"
            if set(differ) <= set(RESTART_IF_CHANGED):
                raise StaleCheckpoint(made)
            raise UserError(f"{made}; remove it to start anew")
        try:
            training.method.load_state_dict(saved["method"])
            training.optimisers.load_state_dict(saved["optimisers"])
            training.evaluator.load_state_dict(saved["evaluator"])
            state = TrainState(**saved["progress"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            cause = str(error).splitlines()[0]
            raise UserError(f"the checkpoint of {name} does not fit ({cause}); remove it to start anew") from None
        training.clock.step.fill_(state.step)
        training.locate(max(0, state.step - 1))
    store.start_log(state.step)
    return state


def cost(training: Training, state: TrainState) -> dict[str, Any]:
    """What the run took. Peak memory is the device allocator's; a CPU has none to ask."""
    cuda = training.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(training.device) if cuda else None
    return {
        **count_parameters(training),
        "flops_per_step": round(state.flops / max(1, state.step)) or None,
        "peak_memory_bytes": peak,
        "seconds_per_step": state.train_seconds / max(1, state.step),
        "wall_seconds": state.wall_seconds,
        "steps": state.step,
    }


def count_parameters(training: Training) -> dict[str, int | None]:
    """How many parameters are trained, and how many the official output depends on."""
    return {
        "parameters_trained": sum(p.numel() for p in training.optimisers.parameters()),
        "parameters_inference": reached_parameters(training.method, training.prepared.size, training.device),
    }


def reached_parameters(method: Method, size: int, device: torch.device) -> int | None:
    """How many parameters the official output of `predict` depends on, found by asking autograd; None if it cannot say.

    It cannot for a method that shuts off gradients in `predict` itself.
    """
    parameters = list(method.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]
    training = method.training
    method.eval()
    dtype = parameters[0].dtype if parameters else torch.float32
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        image = torch.zeros(1, 3, size, size, device=device, dtype=dtype)
        with torch.enable_grad(), devices.without_tuning():
            official = next(iter(named_logits(method.predict(image)).values()))
            if not official.requires_grad:
                return None
            reached = torch.autograd.grad(official.sum(), parameters, allow_unused=True)
    finally:
        for parameter, flag in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(flag)
        method.train(training)
    return sum(p.numel() for p, gradient in zip(parameters, reached, strict=True) if gradient is not None)
