"""An export: a folder with weights, a program and a card, which can be used without the run it came from."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import __version__
from benchmark.errors import RUN_FAILED, UserError, suggest
from benchmark.files import check_writable, write_atomically, write_text
from benchmark.models.load import WEIGHTS, Finished, Official
from benchmark.numerics import Normalisation
from benchmark.registry import short
from benchmark.training.model_file import FILE, weights_digest, write

CARD, PROGRAM = "MODEL.md", "model.pt2"
FORMATS = ("weights", "program")
TOLERANCE = 1e-4  # of logits, relative and absolute, between a program and its method in float32
TEXT = """# {method} on {spec.dataset}

Segments {classes} in histopathology images. Trained with SemiHisto {version}; for research, not a medical device.

| | |
|:--|:--|
| data | {spec.dataset}, split {spec.split}, fold {spec.fold}: {data[labelled]} labelled and {data[unlabelled]} \
unlabelled images ({spec.ratio} %) |
| licence of the data | {model.licence} |
| input | {what} of {model.native_size[1]} x {model.native_size[0]} pixels (median), resized to {model.size} x \
{model.size}{reading} |
| network | {net}, {parameters} parameters |
| strict Dice of this run | {dice} on {n} test images (Jaccard {jaccard}) |
| run | {model.run_id}; sha256 of its weights: {record[weights_sha256]} |
| command | `{record[command]}` |

{files}
{use}"""
PREDICT = """
Use it on images of any size with SemiHisto: `python -m benchmark predict THIS_FOLDER IMAGES`
"""
SCRIPT = """
The program in a script of your own:

```python
import numpy, torch
from PIL import Image

image = Image.open("image.png").convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
pixels = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None] / 255
logits = torch.export.load("model.pt2").module()(pixels)  # [1, classes, {size}, {size}]
```
"""


def formats_of(text: str) -> list[str]:
    """`weights,program` as a list; UserError for one that is unknown."""
    chosen = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    for name in chosen or [""]:
        if name not in FORMATS:
            raise UserError(f"--format {name}: known formats are {', '.join(FORMATS)}.{suggest(name, FORMATS)}")
    return chosen


def clear(folder: Path, finished: Finished, overwrite: bool) -> None:
    """Make room for an export.

    UserError where `finished` is an export itself, where something of its files exists (unless `overwrite`, and it is
    an earlier export), and where nothing can be written.
    """
    if finished.record is None:
        raise UserError(f"{finished.folder} is an export already; copy the folder, or name the run")
    check_writable(folder)
    there = [path for name in (WEIGHTS, PROGRAM, FILE, CARD) if (path := folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{there[0]} exists; --overwrite replaces an earlier export, --output names another folder")
    if there and not (folder / CARD).exists():
        raise UserError(f"{folder} holds {there[0].name} and is no export; --output names another folder")
    for path in there:
        path.unlink()


def export(finished: Finished, folder: Path, formats: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Write the files (name -> what is in it), and say what could not be made, a line each.

    What a method remembers of its training images (`Method.of_images`) may be their masks, and is in none of the files.
    """
    model, program, batch, failed = finished.model, None, "B", []
    weights = {name: z for name, z in finished.weights.items() if name not in finished.method.method.of_images}
    model = replace(model, weights_sha256=weights_digest(weights))
    if "program" in formats:
        try:
            program, batch = make_program(finished.method, model.size, model.normalisation)
        except UserError as error:
            failed = [f"{model.spec.method}: {error}"]
    shape = f"{model.size}, {model.size}]"
    facts = {"input": f"float32 [{batch}, 3, {shape}, RGB in [0, 1]",
             "output": f"float32 logits [{batch}, {len(model.classes)}, {shape}"}
    files = {}
    if "weights" in formats:
        write_atomically(folder / WEIGHTS, lambda stream: torch.save(weights, stream))
        files[WEIGHTS] = "state dict of the method, for `torch.load(..., weights_only=True)`"
    if program is not None:
        write_atomically(folder / PROGRAM, lambda stream: torch.export.save(program, stream))
        files[PROGRAM] = f"for `torch.export.load`: {facts['input']} -> {facts['output']}"
    write(folder, model, {"program": facts})
    files[FILE] = "classes, working size, normalisation, settings and licence, as JSON"
    write_text(folder / CARD, card(finished, files))
    return files | {CARD: "what it is, how good it is, how to use it"}, failed


def card(finished: Finished, files: dict[str, str]) -> str:
    """The card's Markdown. `files`: name -> what is in it."""
    model, record, spec = finished.model, finished.record or {}, finished.model.spec
    limits = model.grey_range
    plain = not (model.grey or limits or model.tile)  # so that a few lines prepare an image
    try:
        parameters, strict = record["cost"]["parameters_inference"], record["scores"]["strict"]
        return TEXT.format(
            method=short(spec.method), spec=spec, model=model, data=record["data"], record=record, version=__version__,
            n=strict["n"], dice=score_in_words(strict["dice"]), jaccard=score_in_words(strict["jaccard"]),
            classes=", ".join(model.classes[1:]), net=spec.values["net.name"],
            parameters=f"{parameters:,}" if parameters else "an unknown number of",
            what=f"tiles (overlap {model.tile[1]})" if model.tile else "whole images",
            reading=", grey" * model.grey + (f", 16 bits: {limits[0]} is black, {limits[1]} white" if limits else ""),
            files="\n".join(f"- `{name}`: {about}" for name, about in files.items()),
            use=PREDICT * (WEIGHTS in files) + SCRIPT.format(size=model.size) * (PROGRAM in files and plain),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"the record of {model.run_id} is damaged ({error} is missing); restore the file") from None


def score_in_words(score: float | None) -> str:
    """A share in percent; None where no test image defines it."""
    return "undefined" if score is None else f"{score:.2%}"


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


def make_program(
    method: Official, size: int, normalisation: Normalisation
) -> tuple[torch.export.ExportedProgram, str]:
    """The official output for images of `size` pixels, on the CPU, in full precision; and how many images it takes at
    once, `B` (any) or `1`.

    UserError where `torch.export` cannot follow the method, or where the program's logits are not the method's.
    """
    plain = copy.deepcopy(method).to(torch.device("cpu")).to(memory_format=torch.contiguous_format)
    for name in plain.method.of_images:
        delattr(plain.method, name)
    whole, trouble = NormalisedOutput(plain, normalisation).eval(), ""
    for batch in ("B", "1"):
        images = torch.rand(2 if batch == "B" else 1, 3, size, size, generator=torch.Generator().manual_seed(0))
        shapes = ({0: torch.export.Dim("batch", min=1, max=4096)},) if batch == "B" else None
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                program = torch.export.export(whole, (images,), dynamic_shapes=shapes)
        except Exception as error:  # torch.export raises whatever it stumbles over
            trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        with torch.inference_mode():
            ours, theirs = whole(images[:1]), program.module()(images[:1])
        if torch.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE):
            return program, batch
        raise UserError(f"the logits of the exported program differ from the run's by "
                        f"{float((ours - theirs).abs().max()):g}, so it is not written", RUN_FAILED)
    raise UserError(f"predict cannot be exported as a program ({trouble}); its weights can", RUN_FAILED)
