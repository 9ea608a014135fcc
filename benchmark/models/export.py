"""An export: a folder with weights, a program and a card, which is used without the run it came from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import torch

from benchmark.errors import UserError, suggest
from benchmark.files import check_writable, write_atomically, write_text
from benchmark.models import info as models
from benchmark.models import program as programs
from benchmark.models.card import card
from benchmark.models.load import WEIGHTS, Finished
from benchmark.runs.compile_record import weights_digest

logger = logging.getLogger(__name__)

CARD = "MODEL.md"
NAMES = {"weights": WEIGHTS, "program": "model.pt2", "onnx": "model.onnx"}  # format -> file


def formats_of(text: str) -> list[str]:
    """`weights,program` as a list; UserError for one that is unknown, or cannot be written here."""
    chosen = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    for name in chosen or [""]:
        if name not in NAMES:
            raise UserError(f"--format {name}: known are {', '.join(NAMES)}.{suggest(name, NAMES)}")
    if "onnx" in chosen:
        programs.check_onnx()
    return chosen


def clear(folder: Path, finished: Finished, again: bool) -> None:
    """Make room for an export. UserError where there is one already, unless it may be replaced (`again`), and where
    the run's own weights are, or nothing can be written."""
    if folder.resolve() == finished.place.folder.resolve():
        raise UserError(f"{folder} is the folder of the run itself; --output names another one")
    check_writable(folder)
    for name in (*NAMES.values(), models.FILE, CARD):
        if (folder / name).exists() and not again:
            raise UserError(f"{folder / name} is there already; --again replaces it, --output names another folder")
        (folder / name).unlink(missing_ok=True)


def check_is_run(finished: Finished) -> dict[str, Any]:
    """The record of what is to be exported; UserError where it is an export itself."""
    if finished.record is None:
        raise UserError(f"{finished.place.folder} is an export already; copy the folder, or name the run")
    return finished.record


def export(
    finished: Finished, folder: Path, formats: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Write the files (name -> what is in it), and tell what could not be made, a line each.

    The program's logits are compared with the run's before it is written.
    """
    record, model = check_is_run(finished), finished.model
    made, failed = None, []
    try:
        made = programs.program(finished.method, model.size, model.mean, model.std)
    except UserError as error:
        failed = [str(error)] if set(formats) - {"weights"} else []
        logger.warning("it cannot be told which weights the official output needs: all of the run's are taken")
    weights = finished.weights if made is None else {name: finished.weights[name] for name in made.needed()}
    facts = interface(finished, made)
    files: dict[str, str] = {}
    for name in formats:
        if name == "weights" or made is not None:
            try:
                write_atomically(folder / NAMES[name], writer(name, weights, made))
                files[NAMES[name]] = about(name, facts)
            except UserError as error:
                failed.append(str(error))
    files[models.FILE] = "classes, working size, normalisation, settings and licence, as JSON"
    models.write(folder, replace(model, weights_sha256=weights_digest(weights)), {"program": facts})
    counted = {name for name, _ in finished.method.method.named_parameters()} & weights.keys()
    try:
        text = card(model, record, files, sum(weights[name].numel() for name in counted))
    except (KeyError, TypeError) as error:
        raise UserError(f"{finished.place.record}: damaged record, what the card needs of it is missing ({error}); "
                        "restore the file") from None
    write_text(folder / CARD, text)
    files[CARD] = "what it is, how good it is, how to use it"
    return files, [f"{model.spec.method}: {trouble}" for trouble in failed]


def interface(finished: Finished, made: programs.Program | None) -> dict[str, Any]:
    """What a program takes and gives, and how far its logits are from the run's at most."""
    size, classes = finished.model.size, len(finished.model.classes)
    batch = "B" if made is None or made.any_batch else "1"
    return {
        "input": f"float32 [{batch}, 3, {size}, {size}], RGB in [0, 1]",
        "output": f"float32 logits [{batch}, {classes}, {size}, {size}]",
        "deviation": None if made is None else made.deviation(),
    }


def writer(name: str, weights: dict[str, torch.Tensor], made: programs.Program | None) -> Callable[[IO[bytes]], object]:
    """What writes a format's file."""
    if name == "weights" or made is None:
        return lambda stream: torch.save(weights, stream)
    return made.save if name == "program" else lambda stream: programs.save_onnx(made, stream)


def about(name: str, facts: dict[str, Any]) -> str:
    """What is in a format's file."""
    signature = f"{facts['input']} -> {facts['output']}; normalising is part of it"
    return {
        "weights": "the state dict behind the official output, for `torch.load(..., weights_only=True)`",
        "program": f"for `torch.export.load`: {signature}",
        "onnx": f"`image` -> `logits`: {signature}",
    }[name]
