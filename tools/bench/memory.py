"""What a step must hold, without a GPU and without memory: `python -m tools.bench.memory`.

Every method of an experiment (default: cost, Table 3 of the paper) is built on the meta device, and a step's forward
passes are followed through their shapes, in float32. Counted: the optimiser's tensors (weights, gradients, momentum)
and the distinct storages that autograd keeps for the backward pass, for all of a step's graphs at once, and for the
largest of the parts that a method back-propagates in turn. Not counted: convolutions' workspaces, gradients on their
way, what an allocator rounds up or has cached, and the driver's own context.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmark.batches.batch import Batch
from benchmark.method import Clock, Method
from benchmark.runs.experiment import read_experiment
from benchmark.runs.request import specify
from benchmark.training.setup import build_method

GIB = 2**30


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


def batches(size: int, count: int) -> tuple[Batch, Batch]:
    """A labelled and an unlabelled batch of shapes alone."""
    with torch.device("meta"):
        image, mask = torch.empty(count, 3, size, size), torch.empty(count, size, size, dtype=torch.int64)
        index, sdf = torch.empty(count, dtype=torch.int64), torch.empty(count, 1, size, size)
        labelled = Batch(index, weak=image, mask=mask, boundary=torch.empty_like(mask), sdf=sdf)
        return labelled, Batch(index, weak=torch.empty_like(image))


def held(method: Method, size: int, count: int) -> tuple[int, int]:
    """Bytes that autograd keeps for all graphs of a step, and for the largest of the parts that come in turn."""
    every, parts = Saved(method), [Saved(method)]

    def pack(tensor: Tensor) -> Tensor:
        return every.pack(parts[-1].pack(tensor))

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = method.losses(*batches(size, count), Clock(100, "meta"))
        for _ in () if isinstance(answer, Mapping) else answer:
            parts.append(Saved(method))
    return every.bytes, max(part.bytes for part in parts)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="what a step must hold")
    parser.add_argument("experiment", nargs="?", default="cost")
    experiment = read_experiment(parser.parse_args().experiment)
    print("| method | M trained | weights, gradients, momentum, GiB | batch | graphs, all kept, GiB | in turn, GiB |")
    print("|:--|--:|--:|:--|--:|--:|")
    for row, request in {cell.row: cell.request for cell in experiment.cells}.items():
        spec, split, *_ = specify(request, "cuda")
        with torch.device("meta"):
            method = build_method(spec, (len(split.labelled), len(split.unlabelled), 165), 2)
        trained = sum(p.numel() for group in method.param_groups() for p in group.parameters)
        for count in (2, 4):
            whole, turn = held(method, spec.values["data.size"], count)
            print(f"| {row} | {trained / 1e6:.2f} | {3 * 4 * trained / GIB:.2f} | {count} + {count} | "
                  f"{whole / GIB:.2f} | {turn / GIB:.2f} |", flush=True)


if __name__ == "__main__":
    main()
