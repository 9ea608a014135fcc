"""What a trained network expects and answers: `model.json` beside its weights, so that using them needs no data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from benchmark.data.images import PixelDecoding
from benchmark.data.splits import Split
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.files import write_json
from benchmark.numerics import Normalisation
from benchmark.spec import Spec
from benchmark.training.setup import normalisation_of

FILE = "model.json"
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
    dataset, own = prepared.dataset, (*split.labelled, *split.unlabelled)
    channels = normalisation_of(spec, prepared, split)
    return Model(
        run_id=spec.run_id, spec=spec, classes=prepared.classes,
        mean=channels.mean, std=channels.std,  # type: ignore[arg-type]
        native_size=prepared.native_size(own),
        tile=(dataset.tile.size, dataset.tile.overlap) if dataset.tile else None,
        grey=dataset.decoding.grey, grey_range=dataset.decoding.range,
        counts=(len(prepared.rows_of(split.labelled)), len(prepared.rows_of((*split.unlabelled, *split.pool))),
                len(prepared.images)),
        trained_on=tuple(sorted(prepared.hashes_of((*own, *split.pool)))),
        licence=dataset.licence, weights_sha256=weights_sha256,
    )


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


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the weights, in order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
