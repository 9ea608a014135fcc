"""The only training loop, readable from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.errors import Interrupted, UserError
from benchmark.training.cuda_graph import CapturedStep
from benchmark.training.measure import reached_parameters
from benchmark.training.setup import Session, as_cpu

BLOCK = 16  # steps between two looks at the losses
CHECKPOINT = 1  # of the checkpoint's own form
CHECKPOINT_SECONDS = 30.0  # between two of a run's checkpoints
MOVES = ("data", "split", "numerics")  # what may change between two commands; all else would be another run


class Keeper(Protocol):
    """Where a run leaves its checkpoint and its log."""

    def load_checkpoint(self) -> dict[str, Any] | None: ...

    def save_checkpoint(self, state: dict[str, Any]) -> None: ...

    def start_log(self, step: int) -> None: ...

    def log(self, lines: list[dict[str, Any]]) -> None: ...


class Outdated(UserError):
    """The checkpoint was made by other code, or with other data or lists: its run can only start anew."""


@dataclass
class Outcome:
    """How training ended: `done`, or `diverged` with the step and the term that was not finite."""

    status: str
    reason: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """What survives an interruption beside the module, the optimisers and the evaluator."""

    step: int = 0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    flops: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def evaluation_steps(steps: int, times: int) -> list[int]:
    """The steps after which a run is evaluated: evenly spread, the last one included."""
    return sorted({max(1, round(steps * (k + 1) / times)) for k in range(min(times, steps))})


def train(
    session: Session, keeper: Keeper, *, asked_to_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[int, int, dict[str, float], float], None] = lambda *_: None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Outcome:
    """Train to the end, or from the last checkpoint to the end; Interrupted when asked to stop, with all saved.

    `tell` hears after every block: step, all steps, the last means, seconds so far with evaluations.
    """
    progress = resume(session, keeper)
    begun = saved_at = time.perf_counter()
    wall_before, pause = progress.wall_seconds, checkpoint_seconds
    per_image: dict[str, np.ndarray] = {}
    evaluations = evaluation_steps(session.steps, session.evaluator.settings.times)
    session.method.train()
    while progress.step < session.steps:
        goal = next(step for step in evaluations if step > progress.step)
        count = min(BLOCK, goal - progress.step, session.phase_ends(progress.step) - progress.step)
        bad = run_block(session, progress, keeper, count, asked_to_stop)
        if bad is not None:
            return Outcome("diverged", bad, history=progress.history, cost=cost(session, progress))
        if progress.step == goal:
            if not weights_are_finite(session):  # a finite loss may have a gradient that is not
                reason = f"a weight was not finite after step {progress.step} of {session.steps}"
                return Outcome("diverged", reason, history=progress.history, cost=cost(session, progress))
            per_image = session.evaluator.observe(session.method, progress.step)
            means = {name: total / progress.counted for name, total in progress.sums.items()}
            progress.history.append({"step": progress.step} | means)
            progress.sums, progress.counted = {}, 0
        now = time.perf_counter()
        progress.wall_seconds = wall_before + now - begun
        tell(progress.step, session.steps, progress.history[-1] if progress.history else {}, progress.wall_seconds)
        stopping = asked_to_stop() and progress.step < session.steps
        if (stopping or now - saved_at > pause) and weights_are_finite(session):
            save(session, keeper, progress)
            saved_at = time.perf_counter()
            pause = max(checkpoint_seconds, 20 * (saved_at - now))  # at most a twentieth of the time goes into saving
        if stopping:
            raise Interrupted(f"stopped after step {progress.step} of {session.steps}; the same command continues it")
    if not per_image:  # resumed at the very end: the last evaluation is made again
        for rows in session.evaluator.pooled.values():
            rows.pop()
        session.evaluator.steps.pop()
        per_image = session.evaluator.observe(session.method, progress.step)
    evidence, masks = session.evaluator.conclude(session.method, per_image)
    progress.wall_seconds = wall_before + time.perf_counter() - begun
    return Outcome("done", None, evidence, masks, progress.history, cost(session, progress))


def run_block(
    session: Session, progress: Progress, keeper: Keeper, count: int, asked_to_stop: Callable[[], bool]
) -> str | None:
    """Some steps, then one look at their losses; tells which term was not finite, if any."""
    started = time.perf_counter()
    plans, values, first = session.plans(progress.step, count), [], progress.step
    for plan in plans:
        session.enter_step(progress.step)
        if progress.step == 0:
            values.append(count_flops(session, plan, progress))
        else:
            values.append(session.step(plan))
        progress.step += 1
        if asked_to_stop():
            break
    rows = torch.stack(values).tolist()
    progress.train_seconds += time.perf_counter() - started
    names, terms = session.step.names, session.step.terms
    lines, trouble = [], None
    for offset, row in enumerate(rows):
        line: dict[str, Any] = {"step": first + offset + 1}
        for place, (name, value) in enumerate(zip(names, row, strict=True)):
            finite = math.isfinite(value)
            if not finite and place < terms and trouble is None:
                trouble = f"'{name}' was {value} at step {first + offset + 1} of {session.steps}"
            if finite:
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            line[name] = value if finite else None
        progress.counted += 1
        lines.append(line)
    keeper.log(lines)
    return trouble


def weights_are_finite(session: Session) -> bool:
    """Whether every trained parameter is; asked seldom, since the host must wait for the answer."""
    return bool(torch.stack([torch.isfinite(p).all() for p in session.optimisers.parameters()]).all())


def count_flops(session: Session, plan: Any, progress: Progress) -> torch.Tensor:
    """The first step, with its floating-point operations counted (multiply and add are two)."""
    if isinstance(session.step, CapturedStep):  # counted in its eager warm-up
        values = session.step(plan)
        progress.flops = session.step.flops
        return values
    with FlopCounterMode(display=False) as counter:
        values = session.step(plan)
    progress.flops = counter.get_total_flops()
    return values


def save(session: Session, keeper: Keeper, progress: Progress) -> None:
    """One checkpoint: everything that the rest of the run depends on."""
    keeper.save_checkpoint({
        "identity": identity(session),
        "method": as_cpu(session.method.state_dict()),
        "optimisers": as_cpu(session.optimisers.state_dict()),
        "evaluator": session.evaluator.state_dict(),
        "progress": dict(vars(progress)),
    })


def identity(session: Session) -> dict[str, Any]:
    """What a checkpoint must share with the run that continues from it."""
    spec = session.spec
    return {
        "schema": CHECKPOINT, "run_id": spec.run_id, "data": session.prepared.arrays_fingerprint,
        "split": session.split.fingerprint, "device": session.device.type,
        "numerics": session.numerics,
    }


def resume(session: Session, keeper: Keeper) -> Progress:
    """Continue from the checkpoint where there is one; log and counts are cut back to its step."""
    state = keeper.load_checkpoint()
    progress = Progress()
    if state is not None:
        name, wanted = session.spec.run_id, identity(session)
        found = state.get("identity") if isinstance(state, dict) else None
        differ = [key for key, value in wanted.items() if not isinstance(found, dict) or found.get(key) != value]
        if differ:
            made = f"the checkpoint of {name} was made with another {differ[0]}"
            raise Outdated(made) if set(differ) <= set(MOVES) else UserError(f"{made}; remove it to start anew")
        try:
            session.method.load_state_dict(state["method"])
            session.optimisers.load_state_dict(state["optimisers"])
            session.evaluator.load_state_dict(state["evaluator"])
            progress = Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            cause = str(error).splitlines()[0]
            raise UserError(f"the checkpoint of {name} does not fit ({cause}); remove it to start anew") from None
        session.clock.step.fill_(progress.step)
    keeper.start_log(progress.step)
    return progress


def cost(session: Session, progress: Progress) -> dict[str, Any]:
    """What the run took. Peak memory is the device allocator's; a CPU has none to ask."""
    cuda = session.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(session.device) if cuda else None
    return {
        "parameters_trained": sum(p.numel() for p in session.optimisers.parameters()),
        "parameters_inference": reached_parameters(session.method, session.prepared.size, session.device),
        "flops_per_step": progress.flops or None,
        "peak_memory_bytes": peak,
        "seconds_per_step": progress.train_seconds / max(1, progress.step),
        "wall_seconds": progress.wall_seconds,
        "steps": progress.step,
    }
