"""Masks and overlays of a folder of images; unreadable images are reported, the others are still processed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmark.data.dataset import boxes
from benchmark.data.images import EXTENSIONS, read_image, resize
from benchmark.data.preview import indexed, overlay, shares
from benchmark.data.store import LARGER
from benchmark.errors import UserError
from benchmark.files import check_writable, write_atomically, write_text
from benchmark.models.load import Finished
from benchmark.numerics import Normaliser
from benchmark.training import device as devices
from benchmark.training.model_file import Model
from benchmark.training.stitch import class_map

FOLDERS = ("masks", "overlays")
TABLE, HEAD = "areas.csv", ["image", "width", "height"]
MARK = b"SemiHisto prediction"  # in a file's text: only such a file is overwritten
DEEP = "the data that this run was trained on say no range for those; save it as RGB of 8 bits"


@dataclass(frozen=True)
class Tiling:
    """Windows of (H, W) pixels that share `overlap` pixels."""

    side: tuple[int, int]
    overlap: int


def images_of(paths: Sequence[Path]) -> list[Path]:
    """The images that these files and folders (not those in them) are or hold; UserError for a path that has none."""
    found: dict[str, Path] = {}  # by absolute path: the same image may be given twice
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
            if not inside:
                hint = f"; is {path / 'images'} meant?" if (path / "images").is_dir() else ""
                raise UserError(f"{path}: no images in it ({', '.join(EXTENSIONS)}){hint}")
            found |= {os.path.abspath(image): image for image in inside}
        elif path.exists():
            found[os.path.abspath(path)] = path
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(found.values())


def check_output(images: Sequence[Path], folder: Path, overwrite: bool) -> None:
    """UserError where two images would go to one file, where nothing can be written, where `folder` holds files that
    are no predictions (masks of a data set, say), and, unless `overwrite`, where predictions are there already."""
    stems: dict[str, Path] = {}
    for image in images:
        if stems.setdefault(image.stem, image) != image:
            raise UserError(f"{image} and {stems[image.stem]} would have masks of one name; rename one, or predict "
                            "them in turn with another --output")
    there = [path for name in FOLDERS if (folder / name).is_dir() for path in sorted((folder / name).iterdir())
             if not path.name.startswith(".")]
    there += [folder / TABLE] * (folder / TABLE).exists()
    for path in there:
        start = b""
        if path.is_file():
            with open(path, "rb") as stream:
                start = stream.read(2048)
        if not (start.startswith(",".join(HEAD).encode()) if path.name == TABLE else MARK in start):
            raise UserError(f"{path} was not written by `predict`, so nothing is written beside or over it; --output "
                            "names another folder")
    if there and not overwrite:
        raise UserError(f"{there[0]} exists; --overwrite replaces predictions, --output names another folder")
    check_writable(folder)


def tiling(model: Model, tile: str | None, overlap: int | None) -> Tiling | None:
    """What `--tile` and `--overlap` mean for this model; None: images are seen whole.

    A model that was trained on tiles knows tissue at their scale alone, so by default it sees the same tiles."""
    tile = tile or ("auto" if model.tile else "whole")
    if tile == "whole":
        if overlap is not None:
            raise UserError("--overlap needs windows, and images are seen whole: give --tile auto or SIZE")
        return None
    if tile == "auto":
        side = (model.tile[0], model.tile[0]) if model.tile else model.native_size
    elif tile.isdecimal() and len(tile) < 5 and 16 <= int(tile) <= 4096:
        side = int(tile), int(tile)
    else:
        raise UserError(f"--tile {tile[:20]}: expected auto, whole, or a number of pixels from 16 to 4096")
    if overlap is None:
        overlap = model.tile[1] if model.tile and tile == "auto" else min(side) // 4
    if not 0 <= overlap < min(side):
        raise UserError(f"--overlap {overlap}: must be at least 0 and less than the window's {min(side)} pixels")
    return Tiling(side, overlap)


def predict(
    finished: Finished, images: Sequence[Path], folder: Path, with_overlay: bool, cut: Tiling | None
) -> Iterator[dict[str, Any]]:
    """Write the answers for each image; a row for each: `image`, files and `areas` (class -> share), or an `error`."""
    model = finished.model
    marked = PngInfo()
    marked.add_text("Title", f"{MARK.decode()} of {model.run_id}")
    for path in images:
        row: dict[str, Any] = {"image": str(path)}
        try:
            image = read_image(path, model.decoding, DEEP)
        except UserError as error:
            yield row | {"error": str(error)}
            continue
        classes = predicted_classes(finished, image, cut)
        areas = shares(classes, model.classes)
        pictures = [indexed(classes, len(model.classes))] + [overlay(image, classes, areas)] * with_overlay
        files = [folder / name / f"{path.stem}.png" for name in FOLDERS]
        for picture, file in zip(pictures, files, strict=False):
            write_atomically(file, partial(picture.save, format="PNG", pnginfo=marked))
        if not with_overlay:
            files[1].unlink(missing_ok=True)  # an earlier one is of another mask
        yield row | {
            "mask": str(files[0]), "overlay": str(files[1]) if with_overlay else None,
            "height": image.shape[0], "width": image.shape[1], "areas": areas,
            "remark": None if cut else _remark(image, model),
        }


@torch.inference_mode()
def predicted_classes(finished: Finished, image: np.ndarray, cut: Tiling | None) -> np.ndarray:
    """Class indices uint8 [H, W] of an image uint8 [H, W, 3], as the evaluation of a run computes them: the image, or
    each window, is resized to the working size, and the answers are stitched at native size."""
    height, width = image.shape[:2]
    windows = boxes(height, width, *(((height, width), 0) if cut is None else (cut.side, cut.overlap)))
    model, numerics = finished.model, finished.numerics
    normalise, batch, found = Normaliser(model.normalisation, numerics), model.spec.values["evaluate.batch"], []
    for first in range(0, len(windows), batch):
        tiles = [image[y : y + h, x : x + w] for y, x, h, w in windows[first : first + batch]]
        pixels = normalise(np.stack([resize(tile, model.size, Image.Resampling.BILINEAR) for tile in tiles]))
        with numerics.autocast(), devices.without_tuning():
            (logits,) = finished.method.predict(pixels).values()
        found.append(logits.float())
    return class_map(torch.cat(found), windows, (height, width)).cpu().numpy()


def write_table(folder: Path, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Path:
    """The areas of all images that were predicted, as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*HEAD, *names])
    for row in rows:
        name = row["image"].encode(errors="backslashreplace").decode()  # it may be no UTF-8
        table.writerow([name, row["width"], row["height"], *(f"{row['areas'][name]:.6f}" for name in names)])
    write_text(folder / TABLE, text.getvalue())
    return folder / TABLE


def _remark(image: np.ndarray, model: Model) -> str | None:
    (height, width), trained = image.shape[:2], model.native_size
    if height <= LARGER * trained[0] and width <= LARGER * trained[1]:
        return None
    what = "tiles" if model.tile else "images"
    return (f"the image has {width} x {height} pixels, the training {what} had {trained[1]} x {trained[0]}; seen "
            "whole, it has another scale than in training (--tile auto cuts it into windows)")
