"""A finished run by its name, or what was exported of one: record, model, and the method with its final weights."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark.data.load import load_dataset, load_prepared
from benchmark.data.splits import check_split_matches_data, load_split
from benchmark.errors import UserError, suggest
from benchmark.models.info import FILE, Model, describe, read
from benchmark.models.predictor import Official, Predictor
from benchmark.numerics import Numerics
from benchmark.runs.compile_record import weights_digest
from benchmark.runs.folder import folder_of
from benchmark.runs.records import read_record, record_files, spec_of
from benchmark.runs.request import recorded
from benchmark.training import device as devices
from benchmark.training.setup import build_method

WEIGHTS = "weights.pt"


@dataclass(frozen=True)
class Place:
    """Where a run lies: its record (None of an export, which has none) and the folder of its weights."""

    record: Path | None
    folder: Path


@dataclass(frozen=True)
class Finished:
    """A run that is ready for use: `method` answers with its official output alone, in evaluation mode on `device`."""

    place: Place
    record: dict[str, Any] | None
    model: Model
    weights: dict[str, torch.Tensor]  # on the CPU
    method: Official
    device: torch.device

    @property
    def predictor(self) -> Predictor:
        """What turns images into classes."""
        model = self.model
        batch, numerics = model.spec.values["evaluate.batch"], Numerics.of(model.spec.values, self.device)
        return Predictor(self.method, model.size, batch, model.normalisation, numerics)


def find(run: str, results: Path) -> Place:
    """Where `run` is: a run id or the beginning of one, a run's folder, its record's file, or an export's folder.

    UserError where there is none, with the nearest, or where a beginning is that of several.
    """
    path = Path(run)
    if path.is_dir():
        return _in_folder(path)
    if run.endswith(".json"):
        if not path.is_file():
            near = suggest(path.name, (one.name for one in record_files(path.parent)))
            raise UserError(f"{path}: no such record.{near}")
        return Place(path, folder_of(path.resolve().parent.parent, path.stem))
    names = [one.stem for one in record_files(results / "records")]
    found = [run] if run in names else [name for name in names if run and name.startswith(run)]
    if len(found) > 1:
        raise UserError(f"'{run}' begins the names of {len(found)} runs: {', '.join(found[:3])}"
                        f"{', ...' if len(found) > 3 else ''}; give more of it")
    if not found:
        folder = results / "records"
        known = f"{len(names)} records in {folder}" if names else f"there are no records in {folder}"
        raise UserError(f"no finished run '{run}'.{suggest(run, names)} Looked at: {known}; --results names another "
                        "folder")
    return Place(results / "records" / f"{found[0]}.json", folder_of(results, found[0]))


def _in_folder(folder: Path) -> Place:
    name = folder.resolve().name
    record = folder.resolve().parent.parent / "records" / f"{name}.json"
    if folder.resolve().parent.name == "runs" and record.is_file():
        return Place(record, folder)
    if (folder / FILE).is_file() and (folder / WEIGHTS).is_file():
        return Place(None, folder)
    raise UserError(f"{folder}: neither an export nor the folder of a finished run; `python -m benchmark status` says "
                    "what is finished")


def load(
    run: str, results: Path, *, raw: str | None = None, device_name: str = "auto"
) -> Finished:
    """The run, its weights checked against its record.

    UserError where it is not finished, where its weights are not here (with the command that makes them again) or are
    damaged, and where a run without a model file needs training data that are missing.
    """
    device = devices.choose(device_name)
    place = find(run, results)
    record = read_record(place.record) if place.record else None
    if record is not None and record["status"] != "done":
        raise UserError(f"{record['run_id']} is {record['status']} ({record.get('reason')}): it has no final weights")
    if record is not None and not (place.folder / WEIGHTS).is_file():
        raise UserError(f"{place.folder / WEIGHTS}: the weights of this run are not here; make them again with "
                        f"'{again(record, results)}' and name that --results here, too")
    weights = read_weights(place.folder / WEIGHTS)
    model = read(place.folder) or _from_data(record, raw)
    digest = weights_digest(weights)
    if digest != (model.weights_sha256 if record is None else record["weights_sha256"]):
        raise UserError(f"{place.folder / WEIGHTS}: damaged, or not the weights of this run; restore the file, or make "
                        "the run again with --overwrite")
    numerics = Numerics.of(model.spec.values, device)
    method = with_weights(model, weights, in_part=record is None).to(device=device, dtype=numerics.dtype)
    return Finished(place, record, model, weights, method.to(memory_format=numerics.memory_format), device)


def again(record: dict[str, Any], results: Path) -> str:
    """The command that makes a run again without touching its record: in another results folder."""
    kind = record["environment"].get("device_type", "auto")
    return f"{record['command']} --device {kind} --results {shlex.quote(str(results / 'local'))}"


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict; UserError where it is damaged."""
    try:
        weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # torch raises many kinds for a damaged file, with advice that would mislead
        raise UserError(f"{path}: damaged, or no weights ({type(error).__name__}); restore the file") from None
    if not isinstance(weights, dict) or not all(isinstance(part, torch.Tensor) for part in weights.values()):
        raise UserError(f"{path}: no weights of a run, which are tensors by name; restore the file")
    return weights


def _from_data(record: dict[str, Any] | None, raw: str | None) -> Model:
    """The model of a run whose folder has no model file, from the data that it was trained on."""
    if record is None:
        raise UserError("this export is of an older version, which did not say how images are read; export the run "
                        "anew")
    spec = spec_of(record)
    dataset = load_dataset(spec.source or spec.dataset, spec.dataset)
    prepared = load_prepared(dataset, spec.values["data.size"], raw=raw)
    with tempfile.TemporaryDirectory(prefix="semihisto-list-") as place:
        listed = recorded(record, spec, Path(place)).labelled_file
        split = load_split(dataset, spec.split.partition("+")[0], spec.ratio, spec.fold, labelled_file=listed)
    check_split_matches_data(split, prepared)
    made = record["data"]["arrays_fingerprint"], record["data"]["split_fingerprint"]
    if made != (prepared.arrays_fingerprint, split.fingerprint):
        raise UserError(f"{spec.run_id} has no {FILE} of this version beside its weights, and the {spec.dataset} "
                        "that is here is not what it was trained on; give its data with --data, or make the run again")
    return describe(spec, prepared, split, record["weights_sha256"])


def with_weights(model: Model, weights: dict[str, torch.Tensor], in_part: bool) -> Official:
    """The official output of the model's method with these weights; `in_part`: what else it has stays as it was built.

    UserError where the weights are not those of the method as its code is now.
    """
    spec = model.spec.with_values({"net.weights": None})  # nothing is downloaded to be replaced
    method = build_method(spec, model.counts, len(model.classes), model.normalisation)
    try:
        _, unexpected = method.load_state_dict(weights, strict=not in_part)
    except RuntimeError as error:
        raise UserError(f"{model.run_id}: its weights do not fit {spec.method} as its code is now "
                        f"({' '.join(str(error).split())[:160]})") from None
    if unexpected:
        raise UserError(f"{model.run_id}: its weights do not fit {spec.method} as its code is now: it has no "
                        f"{unexpected[0]}")
    return Official(method).eval()
