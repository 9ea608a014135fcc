"""What a method costs: the full step against a bare one, memory, and counts of parameters and operations.

Bare = the same method, same capture mode, on one fixed rendered batch: losses, backward, optimiser, `after_step`.
Full = that, plus drawing plans, moving them, rendering, reading losses back. Both are measured in turns, block by
block, so that a machine that slows down slows both; on a CPU their ratio is one of processor time, which other work
does not move.
"""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import weakref
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.errors import UserError
from benchmark.files import write_bytes
from benchmark.numerics import DTYPES
from benchmark.training import device as devices
from benchmark.training.cuda_graph import CudaGraphStep
from benchmark.training.setup import Training
from benchmark.training.step import Plan
from benchmark.training.trainer import BLOCK, TrainState, count_parameters, run_block

SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices that give the ceiling


def profile(training: Training, seconds: float = 60.0) -> dict[str, Any]:
    """Costs of `training`, timed for about `seconds` (of processor time, on a CPU) after a warm-up of two steps.

    Where one step takes so long, the first one and a bare one are all there is; they give no `overhead_ratio` (null).
    """
    state, timed = TrainState(), partial(devices.both_seconds, training.device)
    training.method.train()

    def full_steps(count: int, state: TrainState | None = None) -> None:
        training.clock.step.zero_()
        run_block(training, state or TrainState(step=1), Nowhere(), count, lambda: False)

    first = timed(lambda: full_steps(1, state))
    bare_step = BareStep(training, training.plans(1, 1)[0])
    if training.device.type == "cuda":  # the first step captures, and chooses the kernels
        first = timed(lambda: full_steps(1))
        peak = torch.cuda.max_memory_allocated(training.device)
        bare_step()
        once = timed(bare_step)
    else:
        with LiveTensors(held(training, bare_step)) as live:  # slow, but of a step that is long it takes a small share
            once = timed(bare_step)
        peak = live.peak
    pairs, steps = [(first, once)], 1
    warm = first[1] + once[1] < seconds
    if warm:
        steps = max(1, min(BLOCK, int(seconds / (8 * once[1]))))
        rounds = range(max(1, int(seconds / (2 * steps * once[1]))))
        pairs = [(timed(lambda: full_steps(steps)), timed(lambda: bare_step.repeat(steps))) for _ in rounds]
    waits = [timed(lambda: training.plans(1, steps))[0] / steps for _ in pairs]
    full_seconds = statistics.median(full[0] / steps for full, _ in pairs)
    own_seconds = statistics.median(full[1] / steps for full, _ in pairs)
    can = ceiling(training.device, training.spec.values["train.precision"]) if warm else None
    return count_parameters(training) | {
        "flops_per_step": state.flops_a_step or None,
        "peak_memory_bytes": peak,
        "seconds_per_step": full_seconds,
        "bare_seconds_per_step": statistics.median(bare[0] / steps for _, bare in pairs),
        "overhead_ratio": statistics.median(full[1] / bare[1] for full, bare in pairs) if warm else None,
        "data_wait_fraction": statistics.median(waits) / full_seconds,
        "images_per_second": training.planners["labelled"].batch / full_seconds,
        "ceiling_flops_per_second": can,
        "model_flops_utilisation": state.flops_a_step / own_seconds / can if can and state.flops_a_step else None,
        "wall_seconds": sum(full[0] + bare[0] for full, bare in pairs),
    }


def ceiling(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large matrix product in this precision (bf16: inputs in bfloat16).

    Convolutions may beat it: an algorithm that multiplies less than the operations that are counted.
    """
    kind = torch.bfloat16 if precision == "bf16" else DTYPES[precision]
    side = SIDE[device.type]
    one, other = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    times = [devices.own_seconds(device, lambda: one @ other) for _ in range(8)]
    return 2 * side**3 / min(times)  # the best: other work on the machine only ever slows one down


class Nowhere:
    """A run store that keeps nothing."""

    def load_checkpoint(self) -> None: ...
    def save_checkpoint(self, state: dict[str, Any]) -> None: ...
    def start_log(self, step: int) -> None: ...
    def log(self, lines: list[dict[str, Any]]) -> None: ...
    def log_scores(self, step: int, scores: dict[str, float]) -> None: ...


class BareStep:
    """Forward, backward, optimiser and `after_step` on one fixed rendered batch, captured where the full step is."""

    def __init__(self, training: Training, plan: Plan) -> None:
        captured = isinstance(training.step, CudaGraphStep)
        fixed = copy.copy(training.step.eager if captured else training.step)
        self.batches = batches = fixed.batches(plan)
        fixed.batches = lambda _: batches  # of the first plan, whatever is asked for
        self.step: Any = CudaGraphStep(fixed) if captured else fixed
        self.plan = {"optimiser": plan["optimiser"]}

    def repeat(self, times: int) -> None:
        """Several steps."""
        for _ in range(times):
            self()

    def __call__(self) -> None:
        """One step; the random state is not reseeded."""
        self.step(self.plan)


def held(training: Training, step: BareStep) -> list[Tensor]:
    """The tensors that a run holds all the time: images, weights, what optimisers remember; and the step's batch."""
    holders = [vars(renderer) for renderer in training.step.renderers.values()]
    holders += [batch.tensors for batch in step.batches.values()]
    state = training.method.state_dict(keep_vars=True), training.optimisers.state_dict(), holders
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all storages that operations make while it is on, until each is freed; `peak` is the most.

    Those of `held` are counted from the start. What an operation takes for itself while it runs (the workspace of a
    convolution) is not seen. Slow: for one step.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()
        for tensor in held:
            self.note(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor):
                self.note(leaf)
        return answer

    def note(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, key, size).atexit = False

    def forget(self, key: int, size: int) -> None:
        """A storage was freed."""
        self.known.discard(key)
        self.now -= size


def trace(training: Training, path: Path) -> None:
    """A Chrome trace of three steps, after two that warm up; UserError where it cannot be written."""
    if path.is_dir():
        raise UserError(f"--trace {path}: is a folder; name a file, as in --trace trace.json")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it would complain of every GPU that is not there
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (training.device.type == "cuda")
    plans = training.plans(0, 5)
    for plan in plans[:2]:
        training.step(plan)
    with profile(activities=kinds) as recorded:
        for plan in plans[2:]:
            training.step(plan)
        devices.settle(training.device)
    with tempfile.TemporaryDirectory() as folder:  # the exporter takes names alone
        exported = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(exported))
        write_bytes(path, exported.read_bytes())
