"""An export: a folder with weights, a program and a card, which can be used without the run it came from."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import __version__
from benchmark.errors import RUN_FAILED, UserError, suggest
from benchmark.files import check_writable, write_atomically, write_text
from benchmark.models.load import WEIGHTS, Finished, Official
from benchmark.numerics import Normalisation
from benchmark.registry import short
from benchmark.training import model_file
from benchmark.training.model_file import weights_digest

CARD = "MODEL.md"
NAMES = {"weights": WEIGHTS, "program": "model.pt2"}  # format -> file
TOLERANCE = 1e-4  # of logits, relative and absolute, between a program and its method in float32
TEXT = """# {method} on {dataset}

Segments {classes} in histopathology images. Trained with SemiHisto {version}; for research, not a medical device.

| | |
|:--|:--|
| data | {dataset}, split {split}, fold {fold}: {labelled} labelled and {unlabelled} unlabelled images ({ratio} %) |
| licence of the data | {licence} |
| input | {what} of {width} x {height} pixels (median), resized to {size} x {size}{reading} |
| network | {net}, {parameters:,} parameters |
| strict Dice of this run | {dice:.2f} % on {n} test images (Jaccard {jaccard:.2f} %) |
| run | {run_id}; sha256 of its weights: {sha256} |
| command | `{command}` |

{files}

Use it on images of any size with SemiHisto: `python -m benchmark predict THIS_FOLDER IMAGES`
"""


def formats_of(text: str) -> list[str]:
    """`weights,program` as a list; UserError for one that is unknown."""
    chosen = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    for name in chosen or [""]:
        if name not in NAMES:
            raise UserError(f"--format {name}: known formats are {', '.join(NAMES)}.{suggest(name, NAMES)}")
    return chosen


def clear(folder: Path, finished: Finished, overwrite: bool) -> None:
    """Make room for an export.

    UserError where `finished` is an export itself, where something of its files exists (unless `overwrite`, and it is
    an earlier export), and where nothing can be written.
    """
    if finished.record is None:
        raise UserError(f"{finished.folder} is an export already; copy the folder, or name the run")
    check_writable(folder)
    there = [path for name in (*NAMES.values(), model_file.FILE, CARD) if (path := folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{there[0]} exists; --overwrite replaces an earlier export, --output names another folder")
    if there and not (folder / CARD).exists():
        raise UserError(f"{folder} holds {there[0].name} and is no export; --output names another folder")
    for path in there:
        path.unlink()


def export(finished: Finished, folder: Path, formats: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Write the files (name -> what is in it), and say what could not be made, a line each.

    The program's logits are compared with the run's before it is written.
    """
    model, program, failed = finished.model, None, []
    try:
        program = make_program(finished.method, model.size, model.normalisation)
    except UserError as error:
        failed = [f"{model.spec.method}: {error}"] if "program" in formats else []
    weights = {name: finished.weights[name] for name in program.needed()} if program else finished.weights
    batch = "B" if program is None or program.any_batch else "1"
    shape = f"{model.size}, {model.size}]"
    facts = {"input": f"float32 [{batch}, 3, {shape}, RGB in [0, 1]",
             "output": f"float32 logits [{batch}, {len(model.classes)}, {shape}"}
    files = {}
    if "weights" in formats:
        write_atomically(folder / WEIGHTS, lambda stream: torch.save(weights, stream))
        files[WEIGHTS] = "state dict of the official output, for `torch.load(..., weights_only=True)`"
    if "program" in formats and program:
        exported = program.exported
        write_atomically(folder / NAMES["program"], lambda stream: torch.export.save(exported, stream))
        files[NAMES["program"]] = f"for `torch.export.load`: {facts['input']} -> {facts['output']}"
    model_file.write(folder, replace(model, weights_sha256=weights_digest(weights)), {"program": facts})
    files[model_file.FILE] = "classes, working size, normalisation, settings and licence, as JSON"
    parameters = {name for name, _ in finished.method.method.named_parameters()} & weights.keys()
    write_text(folder / CARD, card(finished, files, sum(weights[name].numel() for name in parameters)))
    return files | {CARD: "what it is, how good it is, how to use it"}, failed


def card(finished: Finished, files: dict[str, str], parameters: int) -> str:
    """The card's Markdown. `files`: name -> what is in it; `parameters`: how many are behind the official output."""
    model, record, spec = finished.model, finished.record or {}, finished.model.spec
    limits = model.grey_range
    try:
        strict, data = record["scores"]["strict"], record["data"]
        return TEXT.format(
            method=short(spec.method), dataset=spec.dataset, version=__version__,
            classes=", ".join(model.classes[1:]), split=spec.split, fold=spec.fold, ratio=spec.ratio,
            labelled=data["labelled"], unlabelled=data["unlabelled"], licence=model.licence,
            what=f"tiles (overlap {model.tile[1]})" if model.tile else "whole images",
            height=model.native_size[0], width=model.native_size[1], size=model.size,
            reading=", grey" * model.grey + (f", 16 bits: {limits[0]} is black, {limits[1]} white" if limits else ""),
            net=spec.values["net.name"], parameters=parameters, dice=100 * strict["dice"], n=strict["n"],
            jaccard=100 * strict["jaccard"], run_id=model.run_id, sha256=record["weights_sha256"],
            command=record["command"], files="\n".join(f"- `{name}`: {about}" for name, about in files.items()),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"the record of {model.run_id} is damaged ({error} is missing); restore the file") from None


class NormalisedOutput(nn.Module):
    """Images float32 [B, 3, S, S] in [0, 1] -> logits float32 [B, C, S, S]; normalising is part of it."""

    def __init__(self, method: Official, normalisation: Normalisation) -> None:
        super().__init__()
        self.method = method
        dtype = next((p.dtype for p in method.parameters()), torch.float32)
        self.register_buffer("mean", torch.tensor(normalisation.mean, dtype=dtype).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(normalisation.std, dtype=dtype).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """The logits of the official output."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        (logits,) = self.method.predict((image.to(mean.dtype) - mean) / std).values()
        return logits.float()


@dataclass(frozen=True)
class Program:
    """What `torch.export` made of a method, and whether it takes any number of images at once, or one only."""

    exported: torch.export.ExportedProgram
    any_batch: bool

    def needed(self) -> list[str]:
        """The names in the method's state dict that the logits depend on."""
        signature = self.exported.graph_signature
        lifted = signature.inputs_to_parameters | signature.inputs_to_buffers
        reached, wanted = set(), [node for node in self.exported.graph_module.graph.nodes if node.op == "output"]
        while wanted:
            node = wanted.pop()
            if node not in reached:
                reached.add(node)
                wanted += node.all_input_nodes
        used = (lifted.get(node.name, "") for node in reached if node.op == "placeholder")
        prefix = "method.method."  # the method, in its official output, in the whole
        return sorted(name.removeprefix(prefix) for name in used if name.startswith(prefix))


def make_program(method: Official, size: int, normalisation: Normalisation) -> Program:
    """The official output for images of `size` pixels, on the CPU, in full precision.

    UserError where `torch.export` cannot follow the method, or where the program's logits are not the method's.
    """
    plain = copy.deepcopy(method).to(torch.device("cpu")).to(memory_format=torch.contiguous_format)
    whole, trouble = NormalisedOutput(plain, normalisation).eval(), ""
    for any_batch in (True, False):
        images = torch.rand(2 if any_batch else 1, 3, size, size, generator=torch.Generator().manual_seed(0))
        shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},) if any_batch else None
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                program = Program(torch.export.export(whole, (images,), dynamic_shapes=shapes), any_batch)
        except Exception as error:  # torch.export raises whatever it stumbles over
            trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        with torch.inference_mode():
            ours, theirs = whole(images[:1]), program.exported.module()(images[:1])
        if torch.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE):
            return program
        raise UserError(f"the logits of the exported program differ from the run's by "
                        f"{float((ours - theirs).abs().max()):g}, so it is not written", RUN_FAILED)
    raise UserError(f"predict cannot be exported as a program ({trouble}); its weights can", RUN_FAILED)
