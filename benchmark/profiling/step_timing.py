"""Where a step's time goes, part by part, and how near the device comes to what it can do at all."""

from __future__ import annotations

import io
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UserError
from benchmark.files import write_atomically
from benchmark.numerics import DTYPES
from benchmark.training import device as devices
from benchmark.training.cuda_graph import CudaGraphStep
from benchmark.training.setup import Training, as_cpu
from benchmark.training.step import Plan, TrainStep

PARTS = ("plan", "render", "forward", "backward", "optimiser", "after_step", "rest")
HARNESS = ("plan", "render", "rest")  # those that a bare step on one fixed batch would be spared
SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices that give the ceiling
IMAGES = 8  # of which an evaluation is timed


class TimedStep(TrainStep):
    """An eager step that notes the seconds of its parts; the device is waited for at every boundary."""

    def __init__(self, step: TrainStep) -> None:
        super().__init__(*step.made_of)
        self.seconds: dict[str, float] = defaultdict(float)

    def batches(self, plan: Plan) -> dict[str, Any]:
        return self.timed("render", lambda: super(TimedStep, self).batches(plan))

    def learn(self, batches: Mapping[str, Any]) -> dict[str, Tensor]:
        before = self.seconds["forward"]
        terms = self.timed("backward", lambda: super(TimedStep, self).learn(batches))
        self.seconds["backward"] -= self.seconds["forward"] - before
        return terms

    def parts(self, batches: Mapping[str, Any]) -> Iterator[Mapping[str, Tensor]]:
        parts = super().parts(batches)
        while (part := self.timed("forward", lambda: next(parts, None))) is not None:
            yield part

    def timed(self, part: str, work: Callable[[], Any]) -> Any:
        """What `work` returns; its seconds go to `part`."""
        answers: list[Any] = []
        self.seconds[part] += devices.own_seconds(self.device, lambda: answers.append(work()))
        return answers[0]


def seconds_by_part(training: Training, steps: int) -> dict[str, float]:
    """Seconds of each of PARTS a step, mean over `steps` eager ones; also of one evaluation and of one checkpoint.

    On a CPU seconds are of processor time. An evaluation's are those of a few images, times so many as there are.
    Under capture the parts run without gaps between them, so their sum here is more than a captured step takes.
    """
    captured = isinstance(training.step, CudaGraphStep)
    step = TimedStep(training.step.eager if captured else training.step)
    method, optimisers = training.method, training.optimisers
    after_step, optimise = method.after_step, optimisers.step
    try:
        method.after_step = lambda clock: step.timed("after_step", lambda: after_step(clock))  # type: ignore[method-assign]
        optimisers.step = lambda rates: step.timed("optimiser", lambda: optimise(rates))  # type: ignore[method-assign]
        plans = step.timed("plan", lambda: training.plans(0, steps))
        total = 0.0
        for plan in plans:
            total += devices.own_seconds(training.device, partial(step, plan))
    finally:
        del method.after_step, optimisers.step
    parts = dict(step.seconds)
    parts["rest"] = max(0.0, total - sum(seconds for name, seconds in parts.items() if name != "plan"))
    found = {name: parts.get(name, 0.0) / steps for name in PARTS}
    found["evaluation"] = evaluation_seconds(training)
    state = {"method": method.state_dict(), "optimisers": optimisers.state_dict()}
    found["checkpoint"] = devices.own_seconds(training.device, lambda: torch.save(as_cpu(state), io.BytesIO()))
    return found


def evaluation_seconds(training: Training) -> float:
    """Seconds of one evaluation, by those of a few test images."""
    evaluator = training.evaluator
    some, images = evaluator.lists["test"][:IMAGES], sum(map(len, evaluator.lists.values()))
    method = training.method.eval()
    seconds = devices.own_seconds(training.device, lambda: evaluator.count(method, some))
    method.train()
    return seconds * images / len(some)


def ceiling(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large matrix product in this precision (bf16: inputs in bfloat16).

    Convolutions may beat it: an algorithm that multiplies less than the operations that are counted.
    """
    kind = torch.bfloat16 if precision == "bf16" else DTYPES[precision]
    side = SIDE[device.type]
    one, other = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    times = [devices.own_seconds(device, lambda: one @ other) for _ in range(8)]
    return 2 * side**3 / min(times)  # the best: other work on the machine only ever slows one down


def trace(training: Training, path: Path, steps: int = 3) -> None:
    """A Chrome trace of some steps, after two that warm up; UserError where it cannot be written."""
    if path.is_dir():
        raise UserError(f"--trace {path}: is a folder; name a file, as in --trace trace.json")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it would complain of every GPU that is not there
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (training.device.type == "cuda")
    plans = training.plans(0, steps + 2)
    for plan in plans[:2]:
        training.step(plan)
    with profile(activities=kinds) as recorded:
        for plan in plans[2:]:
            training.step(plan)
        devices.settle(training.device)
    with tempfile.TemporaryDirectory() as folder:  # the exporter takes names alone
        exported = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(exported))
        write_atomically(path, lambda stream: stream.write(exported.read_bytes()))
