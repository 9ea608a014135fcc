"""What a step must hold, without a GPU and without memory: `python -m tools.bench.memory [EXPERIMENT]`.

Every row of an experiment (default: cost, Table 3 of the paper) is built of fake tensors, at the first of its ratios,
and a step's forward passes are followed through their shapes, in float32. Counted: the optimiser's tensors (weights,
gradients, and its own state, such as momentum) and the distinct storages that autograd keeps for the backward pass, for
all of a step's graphs at once, and for the largest of the parts that a method back-propagates in turn; in the phase
that takes the most. Not counted: weights that are not trained, convolutions' workspaces, gradients on their way, what
an allocator rounds up or has cached, and the driver's own context.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from benchmark.batches.batch import Batch
from benchmark.batches.plan import Planner
from benchmark.batches.render import Renderer, step_of, to_device
from benchmark.errors import NotApplicable
from benchmark.method import Clock, Method
from benchmark.numerics import Normalisation, Numerics
from benchmark.runs.experiment import read_experiment
from benchmark.runs.request import Request, specify
from benchmark.spec import Spec
from benchmark.targets import TARGETS
from benchmark.training.optimisers import Optimisers
from benchmark.training.setup import build_method, phase_spans, total_steps
from tools.command import run

GIB, CPU = 2**30, torch.device("cpu")


class Saved:
    """The storages that autograd keeps, beside those of the weights."""

    def __init__(self, method: Method) -> None:
        self.weights = {tensor.untyped_storage()._cdata for tensor in (*method.parameters(), *method.buffers())}
        self.kept: dict[int, torch.UntypedStorage] = {}  # holds on to them, so that none is met under another's name

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            self.kept[storage._cdata] = storage
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.kept.values())


def batches(method: Method, spec: Spec, count: int) -> dict[str, Batch]:
    """A rendered batch of every stream that the method wants."""
    size, augment, found = spec.values["data.size"], spec.section("augment"), {}
    images, masks = (torch.zeros(count, *shape, size, size, dtype=torch.uint8) for shape in ((3,), ()))
    targets = {name: TARGETS[name](masks.long()) for name in method.targets}
    for stream, views in method.views.items():
        plan = step_of(to_device(Planner(0, stream, range(count), count, size, augment, views).block(0, 1), CPU), 0)
        known = masks if stream == "labelled" else None
        found[stream] = Renderer(images, known, targets, views, augment, Normalisation(), Numerics(CPU))(plan)
    return found


def held(method: Method, images: Mapping[str, Batch], clock: Clock) -> tuple[int, int]:
    """Bytes that autograd keeps for all graphs of a step, and for the largest of the parts that come in turn."""
    every, parts = Saved(method), [Saved(method)]

    def pack(tensor: Tensor) -> Tensor:
        return every.pack(parts[-1].pack(tensor))

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = method.losses(images["labelled"], images.get("unlabelled"), clock)  # type: ignore[arg-type]
        for _ in () if isinstance(answer, Mapping) else answer:
            parts.append(Saved(method))
    return every.bytes, max(part.bytes for part in parts)


def optimised(method: Method, spec: Spec) -> tuple[int, int]:
    """How many parameters are trained; bytes of these, their gradients, and what the optimisers remember of them."""
    optimisers = Optimisers(method, spec.section("optimiser"), 1, CPU)
    trained = optimisers.parameters()
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimisers.step(torch.zeros(len(optimisers.rates)))
    leaves = [*trained, *trained, *tree_leaves(optimisers.state_dict())]
    return sum(p.numel() for p in trained), sum(leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor))


def rows(request: Request) -> Iterator[str]:
    """What the table says of a method: a row for each of two batches."""
    spec, split, dataset, *_ = specify(request, "cuda")
    sizes = len(split.labelled), len(split.unlabelled) + len(split.pool)
    with torch.device("meta"):
        method = build_method(spec, (*sizes, sum(sizes)), len(dataset.classes))
    if not method.cuda_graph:
        raise NotApplicable(f"a step cannot be followed by shapes alone: {method.cuda_graph_reason}")
    with FakeTensorMode(allow_non_fake_inputs=True):  # of the CPU, since methods turn off autocast, and meta has none
        method.to_empty(device=CPU)
        trained, taken = optimised(method, spec)
        clock = Clock(total_steps(spec, split))
        for count in (2, 4):
            images, found = batches(method, spec, count), []
            for phase, steps in phase_spans(method.phases, clock.steps).items():
                method.phase, clock.phase_steps = phase, steps
                found.append(held(method, images, clock))
            whole, turn = map(max, zip(*found, strict=True))
            yield (f"{trained / 1e6:.2f} | {taken / GIB:.2f} | {count} + {count} | {whole / GIB:.2f} | "
                   f"{turn / GIB:.2f}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="what a step must hold")
    parser.add_argument("experiment", nargs="?", default="cost")
    experiment = read_experiment(parser.parse_args().experiment)
    print("| method | M trained | weights, gradients, state, GiB | batch | graphs, all kept, GiB | in turn, GiB |")
    print("|:--|--:|--:|:--|--:|--:|")
    requests: dict[str, Request] = {}
    for cell in experiment.cells:
        requests.setdefault(cell.row, cell.request)
    for name, request in requests.items():
        try:
            for row in rows(request):
                print(f"| {name} | {row} |", flush=True)
        except NotApplicable as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
