"""What a network expects and answers: written beside its weights, so that using them needs no training data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.images import PixelDecoding
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.files import write_json
from benchmark.numerics import Normalisation
from benchmark.spec import Spec
from benchmark.training.setup import normalisation_of

FILE = "model.json"
SCHEMA = 2  # 1 did not say how images are cut and read; such a file is passed over
LARGER = 1.5  # times as long as the training images on a side: tissue has another scale than was learnt


@dataclass(frozen=True)
class Model:
    """The specification that built a network, and the facts of the data that it was trained on."""

    run_id: str
    spec: Spec
    classes: tuple[str, ...]  # by index, the background first
    mean: tuple[float, ...]  # of the three channels, of pixels in [0, 1]
    std: tuple[float, ...]
    native_size: tuple[int, int]  # (H, W): the median of the training images or their tiles, before they were resized
    tile: tuple[int, int] | None  # size and overlap of the tiles that it was trained on; None: on whole images
    grey: bool  # see `PixelDecoding`
    grey_range: tuple[int, int] | None
    counts: tuple[int, int, int]  # labelled, unlabelled and all rows (images, or tiles), as the method was told
    trained_on: tuple[str, ...]  # hashes of the decoded training images
    licence: str  # of the data
    weights_sha256: str

    @property
    def normalisation(self) -> Normalisation:
        """Of the images that the network is shown."""
        return Normalisation(self.mean, self.std)

    @property
    def size(self) -> int:
        """The working size, pixels a side."""
        return int(self.spec.values["data.size"])

    @property
    def decoding(self) -> PixelDecoding:
        """How the training images were read, and new ones are."""
        return PixelDecoding(self.grey_range, self.grey)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        return {"schema": SCHEMA, **asdict(self), "spec": self.spec.to_json(), "size": self.size}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Model:
        """The model that `to_json` wrote; other keys are passed over."""
        values = {field.name: content[field.name] for field in fields(Model)}
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        model = Model(**{**values, **lists, "spec": Spec.from_json(values["spec"])})
        threes, pairs = (model.mean, model.std, model.counts), (model.native_size, model.tile, model.grey_range)
        if {len(each) for each in threes} != {3} or {len(each) for each in pairs if each is not None} != {2}:
            raise ValueError("a list of another length")
        if not isinstance(model.classes, tuple):
            raise TypeError("classes is no list")
        return model


def describe(spec: Spec, prepared: PreparedData, split: Split, weights_sha256: str) -> Model:
    """The model of a run on these data; `weights_sha256`: of its final weights."""
    dataset, names = prepared.dataset, (*split.labelled, *split.unlabelled)
    channels = normalisation_of(spec, prepared, split)
    counts = len(prepared.rows_of(split.labelled)), len(prepared.rows_of(split.unlabelled)), len(prepared.images)
    return Model(
        run_id=spec.run_id, spec=spec, classes=prepared.classes, mean=tuple(channels.mean), std=tuple(channels.std),
        native_size=native_size(prepared, names),
        tile=(dataset.tile.size, dataset.tile.overlap) if dataset.tile else None,
        grey=dataset.decoding.grey, grey_range=dataset.decoding.range, counts=counts,
        trained_on=tuple(sorted(prepared.hashes[prepared.position(name)] for name in names)),
        licence=dataset.licence, weights_sha256=weights_sha256,
    )


def native_size(prepared: PreparedData, names: Iterable[str]) -> tuple[int, int]:
    """(H, W): the median of these images, or of their tiles, before they are resized."""
    height, width = np.median([box[2:] for name in names for box in prepared.boxes(name)], axis=0)
    return round(height), round(width)


def write(folder: Path, model: Model, more: Mapping[str, Any] | None = None) -> None:
    """Write the model into the folder of its weights, with `more` keys for other readers."""
    write_json(folder / FILE, model.to_json() | dict(more or {}))


def read(folder: Path) -> Model | None:
    """The model in a folder, None where there is none or an older form; UserError: damaged, or of a later form."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] < SCHEMA:
            return None
        if content["schema"] > SCHEMA:
            raise UserError(f"{path}: has schema {content['schema']}, this version reads {SCHEMA}; update SemiHisto")
        return Model.from_json(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {str(error)[:80]}); restore the file, or remove it "
                        "and the prepared data are asked") from None
