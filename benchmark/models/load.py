"""A finished run in use: its record, its method with the final weights, and what the network expects and answers.

The last is `model.json` beside the weights, so that using them needs no training data; an export is a folder of the two
and has no record.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from benchmark.data.images import PixelDecoding
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError, suggest
from benchmark.files import write_json
from benchmark.method import Method, named_logits
from benchmark.nets.weights import shape_of
from benchmark.numerics import Normalisation, Numerics
from benchmark.runs.compile_record import weights_digest
from benchmark.runs.folder import folder_of
from benchmark.runs.records import read_record, record_files
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training.setup import build_method, normalisation_of

FILE, WEIGHTS = "model.json", "weights.pt"
SCHEMA = 2  # of the file


@dataclass(frozen=True)
class Model:
    """The specification that built a network, and the facts of the data that it was trained on."""

    run_id: str
    spec: Spec
    classes: tuple[str, ...]  # by index, the background first
    mean: tuple[float, float, float]  # of the three channels, of pixels in [0, 1]
    std: tuple[float, float, float]
    native_size: tuple[int, int]  # (H, W): the median of the training images or their tiles, before they were resized
    tile: tuple[int, int] | None  # size and overlap of the tiles that it was trained on; None: on whole images
    grey: bool  # see `PixelDecoding`
    grey_range: tuple[int, int] | None
    counts: tuple[int, int, int]  # labelled, unlabelled and all rows (images, or tiles), as the method was told
    trained_on: tuple[str, ...]  # hashes of the decoded training images
    licence: str  # of the data
    weights_sha256: str

    @property
    def size(self) -> int:
        """The working size, pixels a side."""
        return int(self.spec.values["data.size"])

    @property
    def decoding(self) -> PixelDecoding:
        """How the training images were read, and new ones are."""
        return PixelDecoding(self.grey_range, self.grey)

    @property
    def normalisation(self) -> Normalisation:
        """Of the images that the network is shown."""
        return Normalisation(self.mean, self.std)


def describe(spec: Spec, prepared: PreparedData, split: Split, weights_sha256: str) -> Model:
    """The model of a run on these data; `weights_sha256`: of its final weights."""
    dataset, names = prepared.dataset, (*split.labelled, *split.unlabelled)
    channels = normalisation_of(spec, prepared, split)
    return Model(
        run_id=spec.run_id, spec=spec, classes=prepared.classes,
        mean=channels.mean, std=channels.std,  # type: ignore[arg-type]
        native_size=native_size(prepared, names),
        tile=(dataset.tile.size, dataset.tile.overlap) if dataset.tile else None,
        grey=dataset.decoding.grey, grey_range=dataset.decoding.range,
        counts=(len(prepared.rows_of(split.labelled)), len(prepared.rows_of(split.unlabelled)), len(prepared.images)),
        trained_on=tuple(sorted(prepared.hashes[prepared.position(name)] for name in names)),
        licence=dataset.licence, weights_sha256=weights_sha256,
    )


def native_size(prepared: PreparedData, names: Iterable[str]) -> tuple[int, int]:
    """(H, W): the median of these images, or of their tiles, before they are resized."""
    height, width = np.median([box[2:] for name in names for box in prepared.boxes(name)], axis=0)
    return round(height), round(width)


def write(folder: Path, model: Model, more: Mapping[str, Any] | None = None) -> None:
    """Write the model into the folder of its weights, with `more` keys for other readers."""
    content = {"schema": SCHEMA, **asdict(model), "spec": model.spec.to_json(), "size": model.size}
    write_json(folder / FILE, content | dict(more or {}))


def read(folder: Path) -> Model:
    """The model in a folder. UserError where it is missing, damaged or of another schema."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise UserError(f"{path}: has schema {content['schema']}, this version reads {SCHEMA}; make the run or the "
                            "export again with this version")
        model: Model = TypeAdapter(Model).validate_python(content | {"spec": Spec.from_json(content["spec"])})
        return model
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: missing or damaged ({type(error).__name__}); restore the file, or make the run again "
                        "with --overwrite") from None


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
        raise UserError(f"'{run}' is the beginning of {len(found)} runs: {', '.join(found[:3])}"
                        f"{', ...' if len(found) > 3 else ''}; give more of the id")
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
        method.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{model.run_id}: its weights do not fit {spec.method} as its code is now "
                        f"({' '.join(str(error).split())[:160]})") from None
    numerics = Numerics.of(model.spec.values, device)
    official = Official(method).eval().to(device=device, dtype=numerics.dtype)
    return Finished(record, folder, model, weights, official.to(memory_format=numerics.memory_format), numerics)
