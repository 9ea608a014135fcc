"""Raw files to prepared arrays: read, check, resize, write aside, rename. Two workers at once give one result."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.data.dataset import IGNORE, Dataset
from benchmark.data.source import (
    Content,
    PixelFingerprint,
    columns,
    decode,
    items_of,
    locked,
    remember,
    stamps,
    unpacked,
)
from benchmark.data.store import FORMAT, PreparedData, Unusable, arrays_fingerprint, read, statistics
from benchmark.data.tiles import Box, boxes
from benchmark.errors import RUN_FAILED, UserError
from benchmark.files import sha256
from benchmark.npz import ArrayWriter

logger = logging.getLogger(__name__)


def prepare(dataset: Dataset, size: int, source: Path, folder: Path, content: Content | None = None) -> PreparedData:
    """Prepare `dataset` at `size` pixels a side from `source`, a folder or an archive, into `folder/<size>`.

    Who comes second waits for the lock and finds the work done. The arrays appear whole, by a rename. content: what
    they must be of, where that is known; other arrays are replaced.
    UserError for anything wrong with the source (file and cause), and where the disk is full.
    """
    place = folder / str(size)
    try:
        with locked(folder):
            try:
                there = read(place, dataset, size)
                if content in (None, there.content):
                    return there
            except Unusable:
                pass
            with _workplace(place) as work:
                logger.info(f"preparing {dataset.name} at {size} px from {source}")
                (work / "new").mkdir()
                with unpacked(dataset, source, work) as images:
                    files = stamps(source, None if images != source else items_of(dataset, source))
                    _write(dataset, images, size, work / "new")
                if place.exists():
                    place.rename(work / "old")
                (work / "new").rename(place)
            made = read(place, dataset, size)
            if files:
                remember(dataset, folder, files, made.content)
            return made
    except Unusable as error:
        raise UserError(f"{place} {error} right after it was written; check the disk", RUN_FAILED) from None
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{error.filename or place}: a file stands where a folder for prepared data is needed; "
                        "move it or set SEMIHISTO_PREPARED") from None
    except OSError as error:
        raise UserError(f"{error.filename or place}: {error.strerror or error}; preparation failed, nothing was "
                        "written; fix the problem and run the command again (SEMIHISTO_PREPARED moves the prepared "
                        "data)", RUN_FAILED) from None


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`; what a killed worker left is removed (only who holds the claim is here)."""
    prefix = f".{folder.name}.work-"
    for left in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(dataset: Dataset, source: Path, size: int, folder: Path) -> None:
    items = items_of(dataset, source)
    ids = [item.id for item in items]
    parts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    pixels, sizes = PixelFingerprint(), []
    tiles: list[list[Box]] = []
    with open(folder / "native.npz", "wb") as stream, ArrayWriter(stream) as native:
        for item in items:
            decoded = decode(dataset, item)
            pixels.add(item.id, decoded)
            image, mask, ignore = decoded
            sizes.append(mask.shape)
            classes = (mask > 0).astype(np.uint8) if dataset.instances else mask.astype(np.uint8)
            if ignore is not None:
                classes[ignore] = IGNORE
            height, width = mask.shape
            tiles.append([(0, 0, height, width)])
            if dataset.tile:
                tiles[-1] = boxes(height, width, dataset.tile.size, dataset.tile.overlap)
            for y, x, h, w in tiles[-1]:
                parts.append(resize(image[y : y + h, x : x + w], size, Image.Resampling.BILINEAR))
                labels.append(resize(classes[y : y + h, x : x + w], size, Image.Resampling.NEAREST))
            objects = dataset.relabel(item, mask) if dataset.instances else _components(classes)
            native.add(item.id, objects.astype(np.uint8 if objects.max(initial=0) < 256 else np.uint16))
            if len(dataset.classes) > 2:
                native.add(f"{item.id}.classes", classes)
            if ignore is not None and ignore.any():
                native.add(f"{item.id}.ignore", ignore)
    images, masks = np.stack(parts), np.stack(labels)
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    sets = [item.groups["set"] for item, cut in zip(items, tiles, strict=True) for _ in cut]
    training = [row for row, name in enumerate(sets) if name == "train"]
    mean, std = statistics(images[training] if training else images)
    index: dict[str, Any] = {
        "format": FORMAT, "dataset": dataset.name, "version": dataset.version, "size": size,
        "classes": dataset.classes, "fingerprint": pixels.hexdigest(),
        "arrays_fingerprint": arrays_fingerprint(ids, images, masks),
        "native_sha256": sha256(folder / "native.npz"),
        "training_statistics": {"images": len(training) or len(images), "mean": mean, "std": std},
        "ids": ids, "groups": columns([item.groups for item in items]),
        "native_sizes": sizes, "hashes": pixels.hashes,
    }
    if dataset.tile:
        index["tiles"] = tiles
    if unmasked := [item.id for item in items if item.mask is None]:
        index["unmasked"] = unmasked
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in index.items())
    (folder / "index.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def resize(array: np.ndarray, size: int, how: Image.Resampling) -> np.ndarray:
    """uint8 [H, W(, 3)] -> [size, size(, 3)]; Pillow's bilinear filter widens with the scale, so it does not alias."""
    return np.asarray(Image.fromarray(array).resize((size, size), how))


def _components(classes: np.ndarray) -> np.ndarray:
    """Object ids of a class mask: the 8-connected components of each class but the background."""
    from scipy import ndimage

    objects = np.zeros(classes.shape, np.uint16)
    for value in (int(value) for value in np.unique(classes) if 0 < value != IGNORE):
        parts = ndimage.label(classes == value, structure=np.ones((3, 3)))[0]
        objects = np.where(parts > 0, parts + int(objects.max()), objects)
    return objects
