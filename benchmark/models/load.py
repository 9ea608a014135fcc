"""A finished run in use: its record, its method with the final weights, and what the network expects and answers.

An export is a folder of the last two, and has no record.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UserError, listed, suggest
from benchmark.method import Method, named_logits
from benchmark.nets.weights import shape_of
from benchmark.numerics import Numerics
from benchmark.runs.run_files import folder_of, read_record, record_files
from benchmark.training import device as devices
from benchmark.training.model_file import FILE, Model, read, weights_digest
from benchmark.training.setup import build_method

WEIGHTS = "weights.pt"


class Official(Method):
    """A method's official output alone: the first of its outputs."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def predict(self, image: Tensor) -> dict[str, Tensor]:
        """Logits [B, C, S, S] by the output's name."""
        name, logits = next(iter(named_logits(self.method.predict(image)).items()))
        return {name: logits}


@dataclass(frozen=True)
class Finished:
    """A run that is ready for use: `method` is in evaluation mode, on the device of `numerics`."""

    record: dict[str, Any] | None  # None of an export, which has none
    folder: Path  # of its weights
    model: Model
    weights: dict[str, Tensor]  # on the CPU
    method: Official
    numerics: Numerics


def find(run: str, results: Path) -> tuple[Path | None, Path]:
    """The record's file (None of an export) and the folder of the weights of `run`: a run's id or its beginning, a
    run's folder, its record's file, or an export's folder.

    UserError where there is none, with the nearest, or where a beginning is that of several runs.
    """
    path = Path(run)
    if path.is_dir():
        place = path.resolve()
        record = place.parent.parent / "records" / f"{place.name}.json"
        if place.parent.name == "runs" and record.is_file():
            return record, path
        if (path / FILE).is_file() and (path / WEIGHTS).is_file():
            return None, path
        if (path / FILE).is_file():
            raise UserError(f"{path}: an export without weights, so its program alone answers; export the run with "
                            "--format weights,program for `predict`")
        raise UserError(f"{path}: neither an export nor the folder of a finished run; `python -m benchmark status` "
                        "lists finished runs")
    if run.endswith(".json"):
        if not path.is_file():
            near = suggest(path.name, (one.name for one in record_files(path.parent)))
            raise UserError(f"{path}: no such record.{near}")
        return path, folder_of(path.resolve().parent.parent, path.stem)
    names = [one.stem for one in record_files(results / "records")]
    found = [run] if run in names else [name for name in names if run and name.startswith(run)]
    if len(found) > 1:
        raise UserError(f"'{run}' is the beginning of {len(found)} runs: {listed(found, 3)}; give more of the id")
    if not found:
        raise UserError(f"no finished run '{run}'.{suggest(run, names)} {results / 'records'} holds {len(names)} "
                        "records; --results names another folder")
    return results / "records" / f"{found[0]}.json", folder_of(results, found[0])


def load(run: str, results: Path, device_name: str = "auto") -> Finished:
    """The run, its weights checked against its record.

    UserError where it is not finished, and where its weights are missing (with the command that makes them again),
    damaged, or not those of the method as its code is now.
    """
    device = devices.choose(device_name)
    path, folder = find(run, results)
    record, file = read_record(path) if path else None, folder / WEIGHTS
    if record is not None and record["status"] != "done":
        raise UserError(f"{record['run_id']} is {record['status']} ({record.get('reason')}), so it has no weights")
    if record is not None and not file.is_file():
        kind, local = record["environment"].get("device_type", "auto"), shlex.quote(str(results / "local"))
        raise UserError(f"{file}: the weights of this run are not on this machine; make them with '{record['command']} "
                        f"--device {kind} --results {local}' and name the same --results here")
    model, weights = read(folder), None
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
        digest = weights_digest(weights)
    except Exception as error:  # torch raises many kinds for a damaged file, with advice that would mislead
        raise UserError(f"{file}: damaged, or no weights ({type(error).__name__}); restore the file") from None
    if digest != (record or asdict(model))["weights_sha256"]:
        raise UserError(f"{file}: damaged, or not the weights of this run; restore the file, or make the run again "
                        "with --overwrite")
    spec = model.spec.with_values({"net.weights": shape_of(weights)})  # nothing is read to be replaced
    method = build_method(spec, model.counts, len(model.classes), model.normalisation)
    try:
        left_out = {name: z for name, z in method.state_dict().items() if name in method.of_images}  # of an export
        method.load_state_dict(left_out | weights)
    except RuntimeError as error:
        raise UserError(f"{model.run_id}: its weights do not fit {spec.method} as its code is now "
                        f"({' '.join(str(error).split())[:160]})") from None
    devices.configure(device, torch.get_num_threads(), model.spec.values["train.deterministic"])
    numerics = Numerics.of(model.spec.values, device)
    official = Official(method).eval().to(device=device, dtype=numerics.dtype)
    return Finished(record, folder, model, weights, official.to(memory_format=numerics.memory_format), numerics)
