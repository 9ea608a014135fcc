"""The phases of a method: which steps belong to which, and what happens before the first step of one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from benchmark.batches.batch import Batch
from benchmark.batches.render import Renderer, to_device
from benchmark.errors import UserError
from benchmark.method import Phase
from benchmark.training.data_placement import StreamedImages


def phase_spans(phases: Mapping[str, Phase], steps: int) -> dict[str, range]:
    """The steps of every phase by its name; none of one that starts with the step at which the next one does."""
    starts = [math.ceil(phase.start * steps) for phase in phases.values()]
    return {name: range(first, end) for name, first, end in zip(phases, starts, [*starts[1:], steps], strict=True)}


def schedule_spans(phases: Mapping[str, Phase], steps: int) -> list[range]:
    """The steps of every run of the learning rates' schedules: one of all, unless a phase has a fresh one."""
    starts = {0, *(math.ceil(phase.start * steps) for phase in phases.values() if phase.fresh_schedule)}
    ordered = sorted(starts)
    return [range(first, end) for first, end in zip(ordered, [*ordered[1:], steps], strict=True)]


def check_phases(phases: Mapping[str, Phase], method: str) -> None:
    """UserError where phases do not cover training in order."""
    starts = [phase.start for phase in phases.values()]
    if starts != sorted(starts) or not starts or starts[0] != 0 or starts[-1] >= 1:
        raise UserError(f"{method}: phases must start at 0 and rise, below 1: {dict(zip(phases, starts, strict=True))}")


def whole_images(renderer: Renderer, stream: StreamedImages | None, rows: np.ndarray, count: int) -> Iterator[Batch]:
    """The images `rows` as they are stored, normalised, in batches of `count`; nothing is turned, cropped or mixed."""
    for first in range(0, len(rows), count):
        index = rows[first : first + count]
        plan = {"index": index, "code": np.zeros(len(index), dtype=np.int64)}
        plan["crop"] = np.tile(np.asarray([0, 0, renderer.size], dtype=np.float32), (len(index), 1))
        plan |= stream.gather(index) if stream is not None else {}
        with torch.no_grad():
            yield renderer(to_device(plan, renderer.pixels.device))
