"""A method's official output as a program that runs without this repository, and which of its weights that takes."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor, nn

from benchmark.errors import RUN_FAILED, UserError
from benchmark.models.predictor import Official

TOLERANCE = 1e-4  # of logits, relative and absolute, between a program and its method in float32
BATCHES = 1, 3  # that a program is tried with before it is passed on


class Whole(nn.Module):
    """Images float32 [B, 3, S, S] in [0, 1] -> logits float32 [B, C, S, S]; normalising is part of it."""

    def __init__(self, method: Official, mean: Any, std: Any) -> None:
        super().__init__()
        self.method = method
        dtype = next((p.dtype for p in method.parameters()), torch.float32)
        self.register_buffer("mean", torch.tensor(mean, dtype=dtype).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=dtype).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """The logits of the official output."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        (logits,) = self.method.predict((image.to(mean.dtype) - mean) / std).values()
        return logits.float()


@dataclass(frozen=True)
class Program:
    """What `torch.export` made of a method, and whether it takes any number of images at once, or one only."""

    exported: torch.export.ExportedProgram
    whole: Whole
    size: int
    any_batch: bool

    def needed(self) -> list[str]:
        """The names in the method's state dict that the logits depend on."""
        signature = self.exported.graph_signature
        lifted = signature.inputs_to_parameters | signature.inputs_to_buffers
        nodes = self.exported.graph_module.graph.nodes
        reached, wanted = set(), [node for node in nodes if node.op == "output"]
        while wanted:
            node = wanted.pop()
            if node not in reached:
                reached.add(node)
                wanted += node.all_input_nodes
        used = (lifted.get(node.name, "") for node in reached if node.op == "placeholder")
        prefix = "method.method."  # the method, in its official output, in the whole
        return sorted(name.removeprefix(prefix) for name in used if name.startswith(prefix))

    def save(self, stream: IO[bytes]) -> None:
        """As a .pt2 file, for `torch.export.load`."""
        torch.export.save(self.exported, stream)  # type: ignore[arg-type]

    def deviation(self) -> float:
        """The largest difference from the method's own logits on images of chance; UserError where it is not small."""
        run = self.exported.module()
        worst = 0.0
        for batch in BATCHES if self.any_batch else BATCHES[:1]:
            image = torch.rand(batch, 3, self.size, self.size, generator=torch.Generator().manual_seed(batch))
            with torch.inference_mode():
                ours, theirs = self.whole(image), run(image)
            worst = max(worst, float((ours - theirs).abs().max()))
            if not torch.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE):
                raise UserError(f"the exported program's logits differ from the run's by {worst:g}; it is not written",
                                RUN_FAILED)
        return worst


def program(method: Official, size: int, mean: Any, std: Any) -> Program:
    """Export the official output for images of `size` pixels, on the CPU, in full precision.

    UserError where `torch.export` cannot follow the method, with what it stumbled over.
    """
    plain = copy.deepcopy(method).to(torch.device("cpu")).to(memory_format=torch.contiguous_format)
    whole = Whole(plain, mean, std).eval()
    trouble = ""
    for any_batch in (True, False):
        example = torch.zeros(2 if any_batch else 1, 3, size, size)
        shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},) if any_batch else None
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                return Program(torch.export.export(whole, (example,), dynamic_shapes=shapes), whole, size, any_batch)
        except Exception as error:  # torch.export raises whatever it stumbles over
            trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    raise UserError(f"predict cannot be exported as a program ({trouble}); its weights can", RUN_FAILED)


def check_onnx() -> None:
    """UserError where what writes ONNX is not installed."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--format onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def save_onnx(made: Program, stream: IO[bytes]) -> None:
    """The same program as ONNX, its weights inside; UserError where it cannot be translated."""
    shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},) if made.any_batch else None
    example = torch.zeros(2 if made.any_batch else 1, 3, made.size, made.size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            translated = torch.onnx.export(
                made.whole, (example,), dynamo=True, verbose=False, dynamic_shapes=shapes, input_names=["image"],
                output_names=["logits"],
            )
    except Exception as error:  # of many kinds, as above
        cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"predict cannot be exported as ONNX ({cause}); its weights can", RUN_FAILED) from None
    assert translated is not None
    stream.write(translated.model_proto.SerializeToString())
