"""What a network expects and answers: written beside its weights, so that using them needs no training data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data.dataset import load_dataset
from benchmark.data.prepared import Prepared
from benchmark.data.splits import Split
from benchmark.engine.session import statistics
from benchmark.errors import UserError
from benchmark.files import write_atomically
from benchmark.spec import Spec

FILE = "model.json"
SCHEMA = 1


@dataclass(frozen=True)
class Model:
    """The specification that built a network, and the facts of the data that it was trained on."""

    run_id: str
    spec: Spec
    classes: tuple[str, ...]  # by index, the background first
    mean: tuple[float, ...]  # of the three channels, of pixels in [0, 1]
    std: tuple[float, ...]
    native_size: tuple[int, int]  # (H, W): the median of the training images, before they were resized
    counts: tuple[int, int, int]  # labelled, unlabelled and all images, as the method was told
    trained_on: tuple[str, ...]  # hashes of the decoded training images
    licence: str  # of the data
    weights_sha256: str

    @property
    def size(self) -> int:
        """The working size, pixels a side."""
        return int(self.spec.values["data.size"])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is its inverse."""
        return {"schema": SCHEMA, **asdict(self), "spec": self.spec.to_json(), "size": self.size}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Model:
        """The model that `to_json` wrote; other keys are passed over."""
        values = {field.name: content[field.name] for field in fields(Model)}
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return Model(**{**values, **lists, "spec": Spec.from_json(values["spec"])})


def describe(spec: Spec, prepared: Prepared, split: Split, weights_sha256: str) -> Model:
    """The model of a run on these data; `weights_sha256`: of its final weights."""
    places = [prepared.position(name) for name in (*split.labelled, *split.unlabelled)]
    mean, std = statistics(spec, prepared, split)
    height, width = np.median([prepared.native_sizes[place] for place in places], axis=0)
    return Model(
        spec.run_id, spec, prepared.classes, tuple(mean), tuple(std), (round(height), round(width)),
        (len(split.labelled), len(split.unlabelled), len(prepared.ids)),
        tuple(sorted(prepared.hashes[place] for place in places)), load_dataset(spec.dataset).licence, weights_sha256,
    )


def write(folder: Path, model: Model, more: Mapping[str, Any] | None = None) -> None:
    """Write the model into the folder of its weights, with `more` keys for other readers."""
    text = json.dumps(model.to_json() | dict(more or {}), indent=1, sort_keys=True) + "\n"
    write_atomically(folder / FILE, lambda stream: stream.write(text.encode()))


def read(folder: Path) -> Model | None:
    """The model in a folder, None where there is none; UserError where it is damaged, or of a later form."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise UserError(f"{path}: has schema {content['schema']}, this version reads {SCHEMA}; update SemiHisto")
        return Model.from_json(content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}: {str(error)[:80]}); restore the file, or remove it "
                        "and the prepared data are asked") from None
