"""Raw files to prepared arrays: read, check, resize, write aside, rename. Two workers at once give one result."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark.data.archive import extract
from benchmark.data.dataset import IGNORE, Dataset, Item, is_archive
from benchmark.data.store import FORMAT, PreparedData, Unusable, arrays_fingerprint, read, statistics
from benchmark.data.tiles import Box, boxes
from benchmark.errors import RUN_FAILED, UserError
from benchmark.files import sha256
from benchmark.run_lock import Claim

logger = logging.getLogger(__name__)

SIZES = range(16, 4097)


def prepare(
    dataset: Dataset, size: int, raw: Path, folder: Path, *, again: bool = False
) -> PreparedData:
    """Prepare `dataset` at `size` pixels a side from under `raw` into `folder`, and return it.

    Who comes second waits for the claim and finds the work done; `again` does it anew. The folder appears whole, by a
    rename. UserError for anything wrong with the source (file and cause), and where the disk is full.
    """
    if size not in SIZES:
        raise UserError(f"working size {size}: must be a whole number from {SIZES[0]} to {SIZES[-1]}")
    try:
        with Claim(folder.parent / f".{folder.name}.claim").held(wait=("alive", "silent")):
            try:
                if not again:
                    return read(folder, dataset, size)
            except Unusable:
                pass
            with _workplace(folder) as work:
                source = dataset.find(raw)
                logger.info(f"preparing {dataset.name} at {size} px from {source}")
                (work / "new").mkdir()
                if is_archive(source):
                    _write_from_archive(dataset, source, size, work)
                else:
                    _write(dataset, source, size, work / "new")
                if folder.exists():
                    folder.rename(work / "old")
                (work / "new").rename(folder)
            return read(folder, dataset, size)
    except Unusable as error:
        raise UserError(f"{folder} {error} right after it was written; is the disk sound?", RUN_FAILED) from None
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{error.filename or folder}: a file stands where a folder for prepared data is needed; "
                        "move it or set SEMIHISTO_PREPARED") from None
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror or error}; nothing was prepared; put it right "
                        "and repeat the command (SEMIHISTO_PREPARED moves the prepared data)", RUN_FAILED) from None


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


def _write_from_archive(dataset: Dataset, archive: Path, size: int, work: Path) -> None:
    place = work / "source"
    extract(archive, place)
    try:
        found = dataset.find(place)
    except UserError:
        raise UserError(f"{archive}: no images of {dataset.name} in this archive") from None
    try:
        _write(dataset, found, size, work / "new")
    except UserError as error:  # the temporary folder is gone when this is read
        raise UserError(str(error).replace(str(place), str(archive)), error.code) from None


def _write(dataset: Dataset, source: Path, size: int, folder: Path) -> None:
    items = list(dataset.items(source))
    if not items:
        raise UserError(f"{source}: no images of {dataset.name} in it")
    ids = [item.id for item in items]
    if len(set(ids)) < len(ids):
        raise UserError(f"{source}: {dataset.name} has the same id for two images")
    parts: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    pixels = hashlib.sha256()
    hashes, sizes = [], []
    tiles: list[list[Box]] = []
    with zipfile.ZipFile(folder / "native.npz", "w") as native:
        for item in items:
            image, mask, ignore = _decoded(dataset, item)
            hashes.append(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest())
            sizes.append(mask.shape)
            pixels.update(f"{item.id} {hashes[-1]} {mask.shape} ".encode() + mask.astype("<u2").tobytes())
            if not dataset.instances:
                ignore = (mask == IGNORE) if ignore is None else ignore | (mask == IGNORE)
            if ignore is not None:
                pixels.update(np.packbits(ignore).tobytes())
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
            _add(native, item.id, objects.astype(np.uint8 if objects.max(initial=0) < 256 else np.uint16))
            if len(dataset.classes) > 2:
                _add(native, f"{item.id}.classes", classes)
            if ignore is not None and ignore.any():
                _add(native, f"{item.id}.ignore", ignore)
    images, masks = np.stack(parts), np.stack(labels)
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    sets = [item.groups["set"] for item, cut in zip(items, tiles, strict=True) for _ in cut]
    training = [row for row, name in enumerate(sets) if name == "train"]
    mean, std = statistics(images[training] if training else images)
    keys = sorted({key for item in items for key in item.groups})
    index: dict[str, Any] = {
        "format": FORMAT, "dataset": dataset.name, "version": dataset.version, "size": size,
        "classes": dataset.classes, "fingerprint": pixels.hexdigest(),
        "arrays_fingerprint": arrays_fingerprint(ids, images, masks),
        "native_sha256": sha256(folder / "native.npz"),
        "training_statistics": {"images": len(training) or len(images), "mean": mean, "std": std},
        "ids": ids, "groups": {key: [item.groups.get(key, "") for item in items] for key in keys},
        "native_sizes": sizes, "hashes": hashes,
    }
    if dataset.tile:
        index["tiles"] = tiles
    if unmasked := [item.id for item in items if item.mask is None]:
        index["unmasked"] = unmasked
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in index.items())
    (folder / "index.json").write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def _decoded(dataset: Dataset, item: Item) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    image = dataset.read_image(item)
    if item.mask is None and dataset.may_lack_masks:
        return image, np.zeros(image.shape[:2], np.uint16), np.ones(image.shape[:2], bool)
    mask, ignore = dataset.read_mask(item), dataset.read_ignore(item)
    for what, part, array in (("mask", item.mask, mask), ("ignore mask", item.ignore, ignore)):
        if array is not None and array.shape != image.shape[:2]:
            shown = item.id if callable(item.image) else str(item.image)
            name = "" if callable(part) else f" {Path(str(part)).name}"
            raise UserError(f"{shown}: the image is {image.shape[1]} x {image.shape[0]} pixels, its {what}{name} "
                            f"{array.shape[1]} x {array.shape[0]}; they must be the same")
    return image, mask, ignore


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


def _add(archive: zipfile.ZipFile, key: str, array: np.ndarray) -> None:
    """One array of an .npz, with a fixed date: the same data give the same file."""
    entry = zipfile.ZipInfo(f"{key}.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
