"""A run, assembled: data on the device, method, optimisers, planners, the step and the evaluator."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.batches.batch import Batch
from benchmark.batches.plan import Planner
from benchmark.batches.render import Renderer, step_of, to_device
from benchmark.data.annotation import Annotation, annotate
from benchmark.data.dataset import Dataset
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import NotApplicable, UserError
from benchmark.files import sha256
from benchmark.method import Clock, Method, Phase, Task
from benchmark.nets import weights
from benchmark.nets.network import Network
from benchmark.numerics import Normalisation, Numerics
from benchmark.randomness import derive
from benchmark.registry import METHODS, is_path, split_path
from benchmark.spec import Spec
from benchmark.training import data_placement
from benchmark.training import device as devices
from benchmark.training.cuda_graph import CudaGraphStep, why_eager
from benchmark.training.evaluate import Evaluator
from benchmark.training.optimisers import Optimisers
from benchmark.training.step import TrainStep

ENGINE = 1  # bump when the same specification no longer gives the same numbers in every method

logger = logging.getLogger(__name__)


@dataclass
class Training:
    """Everything that a run needs, built from its specification alone."""

    spec: Spec
    prepared: PreparedData
    split: Split
    device: torch.device
    method: Method
    clock: Clock
    optimisers: Optimisers
    planners: dict[str, Planner]
    step: Any
    evaluator: Evaluator
    steps: int
    versions: dict[str, int | str]  # of the code that was loaded, whatever becomes of its files
    streams: dict[str, data_placement.StreamedImages] = field(default_factory=dict)  # where not on the device

    def plans(self, first: int, count: int) -> list[dict[str, dict[str, Tensor]]]:
        """The plans of `count` steps from `first`, drawn at once and moved to the device together."""
        blocks: dict[str, dict[str, np.ndarray]] = {s: p.block(first, count) for s, p in self.planners.items()}
        for name, stream in self.streams.items():
            blocks[name] |= stream.gather(blocks[name]["index"])
        rates = [self.optimisers.rates_at(step) for step in range(first, first + count)]
        blocks["optimiser"] = {"rates": np.asarray(rates, dtype=np.float32)}
        moved = {stream: to_device(block, self.device) for stream, block in blocks.items()}
        return [{stream: step_of(block, row) for stream, block in moved.items()} for row in range(count)]

    def enter_step(self, step: int) -> None:
        """Begin the phases that start with this step, and seed the chance inside it by (seed, step) alone."""
        for name, steps in phase_spans(self.method.phases, self.steps).items():
            if steps.start == step:
                self._begin_phase(name)
        self.locate(step)
        torch.manual_seed(derive(self.spec.seed, "step", step))

    def locate(self, step: int) -> None:
        """Tell method and clock which phase a step belongs to."""
        spans = phase_spans(self.method.phases, self.steps)
        self.method.phase = [name for name, steps in spans.items() if step >= steps.start][-1]
        self.clock.phase_steps = spans[self.method.phase]

    def _begin_phase(self, name: str) -> None:
        """All that follows from seed and phase alone: whoever resumes at its first step gets the same."""
        self.method.phase = name
        self.method.task.begin_phase(name)
        torch.manual_seed(derive(self.spec.seed, "phase", name))
        if self.method.phases[name].fresh_optimiser:
            self.optimisers.forget()
        count, renderers = self.evaluator.settings.batch, self.step.renderers
        images = {
            stream: whole_images(renderers[stream], self.streams.get(stream), planner.positions, count)
            for stream, planner in self.planners.items()
        }
        with self.evaluator.numerics.autocast(), devices.without_tuning():
            self.method.begin_phase(name, images)

    def phase_ends(self, step: int) -> int:
        """The first step that belongs to a later phase than `step` does, or the end."""
        starts = [steps.start for steps in phase_spans(self.method.phases, self.steps).values()]
        return min([start for start in starts if start > step] + [self.steps])


def phase_spans(phases: Mapping[str, Phase], steps: int) -> dict[str, range]:
    """The steps of every phase by its name; none of one that starts with the step at which the next one does."""
    starts = [math.ceil(phase.start * steps) for phase in phases.values()]
    return {name: range(first, end) for name, first, end in zip(phases, starts, [*starts[1:], steps], strict=True)}


def check_phases(phases: Mapping[str, Phase], method: str) -> None:
    """UserError where phases do not cover training in order."""
    starts = [phase.start for phase in phases.values()]
    if starts != sorted(starts) or not starts or starts[0] != 0 or starts[-1] >= 1:
        raise UserError(f"{method}: phases must start at 0 and rise, below 1: {dict(zip(phases, starts, strict=True))}")


def whole_images(
    renderer: Renderer, stream: data_placement.StreamedImages | None, rows: np.ndarray, count: int
) -> Iterator[Batch]:
    """The images `rows` as they are stored, normalised, in batches of `count`; nothing is turned, cropped or mixed."""
    for first in range(0, len(rows), count):
        index = rows[first : first + count]
        plan = {"index": index, "code": np.zeros(len(index), dtype=np.int64)}
        plan["crop"] = np.tile(np.asarray([0, 0, renderer.size], dtype=np.float32), (len(index), 1))
        plan |= stream.gather(index) if stream is not None else {}
        with torch.no_grad():
            yield renderer(to_device(plan, renderer.pixels.device))


def code_versions(method: str, dataset: Dataset) -> dict[str, int | str]:
    """Hand-bumped versions of engine, method and data set; of a method from outside also the digest of its file."""
    kind: type[Method] = METHODS.load(method)
    versions: dict[str, int | str] = {"engine": ENGINE, "method": kind.numerics, "dataset": dataset.version}
    if method not in METHODS.names():
        file = split_path(method)[0] if is_path(method) else Path(inspect.getfile(kind))
        versions["source"] = sha256(file)[:16]
    return versions


def total_steps(spec: Spec, split: Split) -> int:
    """`train.steps`, or as many as `train.epochs` take."""
    epochs = spec.values["train.epochs"]
    return int(spec.values["train.steps"]) if epochs is None else int(epochs) * steps_an_epoch(spec, split)


def steps_an_epoch(spec: Spec, split: Split) -> int:
    """An epoch goes over the longer of the two lists, in batches of the unlabelled size."""
    images = max(len(split.labelled), len(split.unlabelled) + len(split.pool))
    return -(-images // int(spec.values["train.batch_unlabelled"]))


def build_method(
    spec: Spec, split_sizes: tuple[int, int, int], classes: int,
    normalisation: Normalisation = Normalisation(),  # noqa: B008 (it is frozen)
) -> Method:
    """The method of `spec`, its weights seeded by the run's seed; `split_sizes`: labelled, unlabelled, all rows."""
    kind: Any = METHODS.load(spec.method)
    labelled, unlabelled, images = split_sizes
    net, train = spec.section("net"), spec.section("train")
    task = Task(
        classes=classes, size=spec.values["data.size"], labelled=labelled, unlabelled=unlabelled, images=images,
        seed=spec.seed, net=net.name, weights=net.weights, loss=train.loss,
        mean=normalisation.mean, std=normalisation.std,
    )
    if "unlabelled" in kind.views and not unlabelled:
        raise NotApplicable(f"{spec.method} learns from unlabelled images and there are none at {spec.ratio} % labels")
    torch.manual_seed(derive(spec.seed, "method"))
    method: Method = kind(task, **spec.hyperparameters)
    method.task = task
    check_phases(method.phases, spec.method)
    smallest = min(spec.values[f"train.batch_{stream}"] for stream in kind.views)
    depth = max((part.divisor for part in method.modules() if isinstance(part, Network)), default=1)
    if smallest == 1 and task.size <= depth:
        raise UserError(
            f"BatchNorm cannot work on one value a channel: one image of {task.size} px is a single pixel at the "
            "network's deepest level; use larger batches or a larger data.size"
        )
    return method


def annotation_of(spec: Spec, prepared: PreparedData, split: Split) -> Annotation | None:
    """The sparse annotation of the labelled images; None where their masks are whole."""
    return annotate(prepared, split.labelled, spec.section("labels"), spec.fold)


def normalisation_of(spec: Spec, prepared: PreparedData, split: Split) -> Normalisation:
    """Mean and standard deviation by `data.normalise`."""
    choice = weights.normalisation(spec.values)
    if choice in weights.STATISTICS:
        return Normalisation(*weights.STATISTICS[choice])
    if choice == "none":
        return Normalisation()
    if choice == "published":
        published = prepared.dataset.published_statistics
        if published is None:
            raise UserError(f"nobody published statistics of {spec.dataset}; use --set data.normalise=training")
        return Normalisation(*published)
    training = sorted({*split.labelled, *split.unlabelled}, key=prepared.position)
    return Normalisation(*prepared.statistics(prepared.rows_of(training)))


def build_training(
    spec: Spec, prepared: PreparedData, split: Split, device: torch.device,
    versions: dict[str, int | str] | None = None,
) -> Training:
    """Build all parts of the run `spec`; NotApplicable where its method cannot do the setting, UserError for mistakes.

    versions: what `code_versions` has just said, where the caller needs it, too.
    """
    versions = versions or code_versions(spec.method, prepared.dataset)
    train = spec.section("train")
    devices.configure(device, train.threads, train.deterministic)
    devices.clear(device)
    unlabelled = (*split.unlabelled, *split.pool)
    lists = {"labelled": prepared.rows_of(split.labelled), "unlabelled": prepared.rows_of(unlabelled)}
    sizes = (len(lists["labelled"]), len(lists["unlabelled"]), len(prepared.images))
    numerics, normalisation = Numerics.of(spec.values, device), normalisation_of(spec, prepared, split)
    method = build_method(spec, sizes, len(prepared.classes), normalisation)
    if split.pool and "unlabelled" not in method.views:
        raise NotApplicable(f"{spec.method} learns from no unlabelled images, so a pool of them changes nothing")
    method = method.to(device=device, dtype=numerics.dtype).to(memory_format=numerics.memory_format)
    steps = total_steps(spec, split)
    clock = Clock(steps, device, steps_an_epoch(spec, split))
    optimisers = Optimisers(method, spec.section("optimiser"), steps, device)
    batch = {"labelled": train.batch_labelled, "unlabelled": train.batch_unlabelled}
    augment = spec.section("augment")
    planners = {
        stream: Planner(derive(spec.seed, "plan"), stream, lists[stream], batch[stream], prepared.size, augment, views)
        for stream, views in method.views.items()
    }
    sparse = annotation_of(spec, prepared, split)
    masks = sparse.masks if sparse else prepared.masks
    renderers, streams = data_placement.renderers(prepared, lists, masks, method, augment, normalisation, numerics)
    step: Any = TrainStep(method, clock, renderers, optimisers, numerics)
    if train.capture == "on" and device.type == "cuda":
        if method.cuda_graph:
            step = CudaGraphStep(step)
        else:
            logger.warning(why_eager(spec.method, method))
    evaluated = {"test": split.test, "validation": split.validation}
    evaluator = Evaluator(prepared, evaluated, spec.section("evaluate"), normalisation, numerics)
    return Training(
        spec, prepared, split, device, method, clock, optimisers, planners, step, evaluator, steps, versions, streams
    )


def as_cpu(tree: Any) -> Any:
    """Tensors of a nested dict or list on the CPU, all else as it is."""
    if isinstance(tree, Tensor):
        return tree.detach().cpu()
    if isinstance(tree, Mapping):
        return {key: as_cpu(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_cpu(value) for value in tree]
    return tree
