"""Masks and overlays of a folder of images; what cannot be read is told, and the rest goes on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.data.images import EXTENSIONS
from benchmark.data.overlay import indexed, overlay, shares
from benchmark.errors import UserError
from benchmark.files import check_writable, write_atomically, write_text
from benchmark.models.info import LARGER, Model
from benchmark.models.load import Finished

KINDS = tuple(dict.fromkeys((*EXTENSIONS, ".jpg", ".jpeg")))
TABLE = "areas.csv"
DEEP = "the data that this run was trained on say no range for those; save it as RGB of 8 bits"


@dataclass(frozen=True)
class Tiling:
    """Windows of (H, W) pixels that share `overlap` pixels."""

    side: tuple[int, int]
    overlap: int


@dataclass(frozen=True)
class Output:
    """Where the answers for one image go; no overlay where none is wanted."""

    image: Path
    mask: Path
    overlay: Path | None

    @property
    def files(self) -> list[Path]:
        return [self.mask] + ([self.overlay] if self.overlay else [])


def images_of(paths: Sequence[Path]) -> list[Path]:
    """The images that these files and folders (not those in them) are or hold; UserError for a path that has none."""
    found: dict[str, Path] = {}  # by absolute path: the same image may be given twice
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in KINDS and not p.name.startswith("."))
            if not inside:
                hint = f"; is {path / 'images'} meant?" if (path / "images").is_dir() else ""
                raise UserError(f"{path}: no images in it ({', '.join(KINDS)}){hint}")
            found |= {os.path.abspath(image): image for image in inside}
        elif path.exists():
            found[os.path.abspath(path)] = path
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(found.values())


def outputs(images: Sequence[Path], folder: Path, with_overlay: bool, again: bool) -> list[Output]:
    """Where everything goes. UserError where two images would go to one place, where nothing can be written, or where,
    unless `again`, something is there."""
    check_writable(folder)
    planned: dict[str, Output] = {}
    for image in images:
        if image.stem in planned:
            raise UserError(f"{image} and {planned[image.stem].image} would have masks of one name; rename one, or "
                            "predict them in turn with another --output")
        drawn = folder / "overlays" / f"{image.stem}.png" if with_overlay else None
        planned[image.stem] = Output(image, folder / "masks" / f"{image.stem}.png", drawn)
    for path in (*(file for output in planned.values() for file in output.files), folder / TABLE):
        if path.exists() and not again:
            raise UserError(f"{path} is there already; --overwrite replaces it, --output names another folder")
    return list(planned.values())


def tiling(finished: Finished, tile: str | None, overlap: int | None) -> Tiling | None:
    """What `--tile` and `--overlap` mean for this run; None: images are seen whole.

    A run that was trained on tiles knows tissue at their scale alone, so it sees windows unless told otherwise."""
    tile = tile or ("auto" if finished.model.tile else "whole")
    if tile == "whole":
        if overlap is not None:
            raise UserError("--overlap is of windows, and images are seen whole: give --tile auto or SIZE")
        return None
    if tile == "auto":
        side = finished.model.native_size
    elif tile.isdecimal() and 16 <= int(tile) <= 4096:
        side = int(tile), int(tile)
    else:
        raise UserError(f"--tile {tile}: expected auto, whole, or a number of pixels from 16 to 4096")
    overlap = min(side) // 4 if overlap is None else overlap
    if not 0 <= overlap < min(side):
        raise UserError(f"--overlap {overlap}: must be at least 0 and less than the window's {min(side)} pixels")
    return Tiling(side, overlap)


def predict(finished: Finished, planned: Sequence[Output], cut: Tiling | None) -> Iterator[dict[str, Any]]:
    """Write the answers for each image; a row for each: `image`, files and `areas` (class -> share), or an `error`."""
    predictor, names, decoding = finished.predictor, finished.model.classes, finished.model.decoding
    for output in planned:
        row: dict[str, Any] = {"image": str(output.image)}
        try:
            image = decoding.read(output.image, DEEP)
        except UserError as error:
            yield row | {"error": str(error)}
            continue
        classes = predictor.whole(image) if cut is None else predictor.tiled(image, cut.side, cut.overlap)
        areas = shares(classes, names)
        _save(output.mask, indexed(classes, len(names)))
        if output.overlay:
            _save(output.overlay, overlay(image, classes, areas))
        yield row | {
            "mask": str(output.mask), "overlay": str(output.overlay) if output.overlay else None,
            "height": image.shape[0], "width": image.shape[1], "areas": areas,
            "remark": None if cut else _remark(image, finished.model),
        }


def write_table(folder: Path, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Path:
    """The areas of all images that were predicted, as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "width", "height", *names])
    for row in rows:
        table.writerow([row["image"], row["width"], row["height"], *(f"{row['areas'][name]:.6f}" for name in names)])
    write_text(folder / TABLE, text.getvalue())
    return folder / TABLE


def _remark(image: np.ndarray, model: Model) -> str | None:
    (height, width), trained = image.shape[:2], model.native_size
    if height <= LARGER * trained[0] and width <= LARGER * trained[1]:
        return None
    what = "tiles" if model.tile else "images"
    return (f"{width} x {height} pixels, where the training {what} had {trained[1]} x {trained[0]}: seen whole, it is "
            "at another scale; --tile auto cuts it into windows of their size")


def _save(path: Path, picture: Image.Image) -> None:
    write_atomically(path, lambda stream: picture.save(stream, format="PNG"))
