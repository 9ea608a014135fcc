"""What a method costs: the full step against a bare one, and counts of parameters and operations.

Bare = the same method, same capture mode, on one fixed rendered batch: losses, backward, optimiser, `after_step`.
Full = that, plus drawing plans, moving them, rendering, reading losses back. Both are measured in turns, block by
block, so that a machine that slows down slows both; on a CPU their ratio is one of processor time, which other work
does not move.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmark.profiling.memory import peak_bytes
from benchmark.profiling.step_timing import HARNESS, PARTS, anatomy, ceiling
from benchmark.training import device as devices
from benchmark.training.cuda_graph import CudaGraphStep
from benchmark.training.measure import reached_parameters
from benchmark.training.setup import Training
from benchmark.training.step import Plan, TrainStep
from benchmark.training.trainer import BLOCK, CHECKPOINT_SECONDS, TrainState, run_block


class _Nowhere:
    """A store that keeps nothing."""

    def load_checkpoint(self) -> dict[str, Any] | None:
        return None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        return None

    def start_log(self, step: int) -> None:
        return None

    def log(self, lines: list[dict[str, Any]]) -> None:
        return None


def count(training: Training) -> dict[str, Any]:
    """Parameters alone; nothing is trained."""
    return {
        "parameters_trained": sum(p.numel() for p in training.optimisers.parameters()),
        "parameters_inference": reached_parameters(training.method, training.prepared.size, training.device),
    }


def profile(training: Training, seconds: float = 60.0) -> dict[str, Any]:
    """Costs of `training`, timed for about `seconds` (of processor time, on a CPU) after a warm-up.

    Where one step takes so long, the first one and a bare one are all there is; they give no `overhead_ratio` (null).
    """
    store, progress, timed = _Nowhere(), TrainState(), partial(devices.both_seconds, training.device)
    training.method.train()

    def full_steps(count: int) -> None:
        training.clock.step.zero_()
        run_block(training, TrainState(step=1), store, count, lambda: False)

    first = timed(lambda: run_block(training, progress, store, 1, lambda: False))
    plan = training.plans(1, 1)[0]
    peak = peak_memory(training, plan)
    bare_step = BareStep(training, plan)
    once = timed(bare_step)
    pairs, steps = [(first, once)], 1
    warm = first[1] + once[1] < seconds
    if warm:
        steps = max(1, min(BLOCK, int(seconds / (8 * once[1]))))
        rounds = range(max(1, int(seconds / (2 * steps * once[1]))))
        pairs = [(timed(lambda: full_steps(steps)), timed(lambda: bare_step.repeat(steps))) for _ in rounds]
    waits = [timed(lambda: training.plans(1, steps))[0] / steps for _ in pairs]
    full_seconds = statistics.median(full[0] / steps for full, _ in pairs)
    bare_seconds = statistics.median(bare[0] / steps for _, bare in pairs)
    own_seconds = statistics.median(full[1] / steps for full, _ in pairs)
    images = sum(planner.batch for planner in training.planners.values())
    found = measured(training, steps, own_seconds) if warm else {}
    utilisation = None
    if found and progress.flops:
        utilisation = progress.flops / own_seconds / found["ceiling_flops_per_second"]
    return count(training) | found | {
        "flops_per_step": progress.flops or None,
        "peak_memory_bytes": peak,
        "seconds_per_step": full_seconds,
        "bare_seconds_per_step": bare_seconds,
        "overhead_ratio": statistics.median(full[1] / bare[1] for full, bare in pairs) if warm else None,
        "data_wait_fraction": statistics.median(waits) / full_seconds,
        "images_per_second": images / full_seconds,
        "model_flops_utilisation": utilisation,
        "wall_seconds": sum(full[0] + bare[0] for full, bare in pairs),
    }


def peak_memory(training: Training, plan: Plan) -> int:
    """The most bytes in use at once so far, by a GPU's own count; on a CPU those of the tensors alive in a step.

    There, what the run holds all the time (images, weights, what optimisers remember) is included.
    """
    if training.device.type == "cuda":
        return torch.cuda.max_memory_allocated(training.device)
    renderers = [vars(renderer) for renderer in training.step.renderers.values()]
    state = training.method.state_dict(keep_vars=True), training.optimisers.state_dict(), renderers
    held = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    return peak_bytes(lambda: training.step(plan), held)


def measured(training: Training, steps: int, step_seconds: float) -> dict[str, Any]:
    """Seconds by part, the device's ceiling, and the share of a whole run that is neither training nor reading back."""
    parts = anatomy(training, steps)
    settings = training.evaluator.settings
    stepping = training.steps * step_seconds
    evaluating = min(settings.times, training.steps) * parts["evaluation"]
    ours = sum(parts[name] for name in HARNESS)
    saving = (stepping + evaluating) / CHECKPOINT_SECONDS * parts["checkpoint"]
    return {
        "seconds_by_part": parts,
        "overhead_by_parts": 1 + ours / (sum(parts[name] for name in PARTS) - ours),
        "ceiling_flops_per_second": ceiling(training.device, training.spec.values["train.precision"]),
        "evaluation_fraction": evaluating / (stepping + evaluating + saving),
        "checkpoint_fraction": saving / (stepping + evaluating + saving),
    }


class FixedBatches(TrainStep):
    """A step on batches that were rendered once."""

    def __init__(self, step: TrainStep, plan: Plan) -> None:
        super().__init__(*step.made_of)
        self.fixed = step.batches(plan)

    def batches(self, plan: Plan) -> dict[str, Any]:
        """The batches of the first plan, whatever `plan` says."""
        return self.fixed


class BareStep:
    """Forward, backward, optimiser and `after_step` on one fixed rendered batch, captured where the full step is."""

    def __init__(self, training: Training, plan: Plan) -> None:
        captured = isinstance(training.step, CudaGraphStep)
        fixed = FixedBatches(training.step.eager if captured else training.step, plan)
        self.step: Any = CudaGraphStep(fixed) if captured else fixed
        self.plan = {"optimiser": plan["optimiser"]}

    def repeat(self, times: int) -> None:
        """Several steps."""
        for _ in range(times):
            self()

    def __call__(self) -> None:
        """One step; the random state is not reseeded."""
        self.step(self.plan)
