"""A data set by its name or path, and its prepared arrays: read, or prepared and read."""

from __future__ import annotations

import logging
import os
import shlex
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmark.data.collections import COLLECTIONS
from benchmark.data.dataset import IGNORE, CollectionPool, Dataset, boxes
from benchmark.data.folder_dataset import FILE, FolderDataset
from benchmark.data.images import resize
from benchmark.data.source import (
    Content,
    PixelFingerprint,
    columns,
    content_of,
    decode,
    items_of,
    locked,
    recall,
    remember,
    stamps,
    unpacked,
)
from benchmark.data.store import ABSENT, FORMAT, PreparedData, Unusable, arrays_fingerprint, read_prepared
from benchmark.errors import RUN_FAILED, UserError, listed, suggest
from benchmark.files import ArrayWriter, remove_unfinished, sha256, write_json
from benchmark.paths import prepared_folder, raw_folder
from benchmark.registry import DATASETS, is_path, portable, split_path

logger = logging.getLogger(__name__)

SIZES = range(16, 4097)  # pixels a side
PATIENCE = 10.0  # seconds between two lines about preparing
SHOWN = 5  # images that cannot be used, of those that a line names


def names() -> list[str]:
    """Every data set there is by name: ours, collections without masks, and those of installed packages."""
    return [*sorted([*DATASETS.names(), *COLLECTIONS]), *DATASETS.outside()]


def load_dataset(given: str) -> Dataset:
    """The data set that a user names: by a name of `names()`, by `path/to/file.py:Class`, or by the path of a folder
    with a dataset.yaml, or of that file. UserError, with a suggestion, where there is none."""
    dataset: Dataset
    folder = Path(given).parent if Path(given).name == FILE else Path(given)
    if given not in names() and not is_path(given) and (os.sep in given or folder.is_dir()):
        dataset = FolderDataset(folder)
        path = os.path.normpath(folder)
        dataset.source = path if os.sep in path else os.path.join(".", path)  # never taken for a name
    elif given in COLLECTIONS:
        dataset = CollectionPool(given)
    else:
        if given not in names() and not is_path(given):
            raise UserError(f"unknown dataset '{given}', and no such folder.{suggest(given, names())} Known: "
                            f"{', '.join(names())}.")
        dataset = DATASETS.load(given)()
        dataset.name, dataset.source = portable(given), given
        if is_path(given):  # what is prepared is of this file as it is now
            dataset.version = f"{dataset.version}-{sha256(split_path(given)[0])[:16]}"
    return dataset


def check_masks(dataset: Dataset) -> None:
    """UserError for images that nobody has masks for, where labels are learned from or scored."""
    if dataset.why_unlabelled:
        raise UserError(f"{dataset.name} cannot be learned from with labels, or scored: {dataset.why_unlabelled}; its "
                        f"images can be unlabelled ones, as in --dataset glas --unlabelled {dataset.name}")


def load_prepared(
    dataset: Dataset | str, size: int, *, raw: str | Path | None = None, root: str | Path | None = None,
    prepare: bool = True, read: bool = False,
) -> PreparedData:
    """The data set at this working size as it lies on the disk now, prepared where it is not yet, or not any more.

    Files that have their size, time and inode since they were last read are taken for unchanged, unless `read`; what
    is read counts by its content alone. Where the raw data are gone, what was prepared of them stands.
    raw: where raw data sets lie (else SEMIHISTO_DATA, else ./data). root: where prepared ones are kept.
    prepare=False: what is prepared, wherever it came from.
    UserError: unknown name; no raw data (what to get and where to put it); bad files; `prepare=False` and not there.
    """
    dataset = load_dataset(dataset) if isinstance(dataset, str) else dataset
    if size not in SIZES:
        raise UserError(f"working size {size}: must be a whole number from {SIZES[0]} to {SIZES[-1]}")
    folder = prepared_folder(root) / dataset.prepared_name
    there, trouble = None, ABSENT
    try:
        there = read_prepared(folder / str(size), dataset, size)
    except Unusable as error:
        trouble = str(error)
    if not prepare:
        if there is not None:
            return there
        raise UserError(f"{folder / str(size)}: the prepared {dataset.name} {trouble}; make it with "
                        f"'python -m benchmark data prepare {shlex.quote(dataset.source)} --size {size}'")
    try:
        source = dataset.find(raw_folder(raw))
    except UserError as error:
        if there is not None and raw is None:
            return there
        if trouble == ABSENT:
            raise
        raise UserError(f"{folder / str(size)} {trouble} and cannot be prepared again: {error}", error.code) from None
    content = content_of(dataset, source, folder, read=read) if there else None
    if there is not None:
        if content in (None, there.content):
            return there
        trouble = f"was made from other images, masks or groups than {source} has"
    if trouble != ABSENT:
        logger.warning(f"{folder / str(size)} {trouble}: preparing {dataset.name} again")
    return prepare_arrays(dataset, size, source, folder, content)


def current_fingerprint(
    dataset: Dataset, split: str, *, raw: str | Path | None = None, root: str | Path | None = None, read: bool = True
) -> str | None:
    """The fingerprint of the pixels that a run would be trained on now: of the part that the lists of `split` are of,
    or of all.

    None where it is not known: neither raw nor prepared data are here, or they are generated. Without `read` also where
    they were never read here, and where something is wrong with them, which is for others to say."""
    folder = prepared_folder(root) / dataset.prepared_name
    known = recall(dataset, folder)
    try:
        source = dataset.find(raw_folder(raw))
    except UserError:
        if raw is not None:
            raise
        return known.of(split) if known else None
    try:
        now = content_of(dataset, source, folder) if read or known else None
    except UserError:
        if read:
            raise
        return None
    return now.of(split) if now else None


def prepare_arrays(
    dataset: Dataset, size: int, source: Path, folder: Path, content: Content | None = None
) -> PreparedData:
    """Prepare `dataset` at `size` pixels a side from `source`, a folder or an archive, into `folder/<size>`.

    Who comes second waits for the lock and finds the work done. The arrays appear whole, by a rename. content: what
    they must be of, where that is known; other arrays are replaced.
    UserError for anything wrong with the source (file and cause), and where the disk is full.
    """
    place = folder / str(size)
    try:
        with locked(folder):
            try:
                there = read_prepared(place, dataset, size)
                if content in (None, there.content):
                    return there
            except Unusable:
                pass
            remove_unfinished(folder)
            with TemporaryDirectory(prefix=f".{size}.", dir=folder) as name:
                work = Path(name)
                logger.info(f"preparing {dataset.name} at {size} px from {source}")
                (work / "new").mkdir()
                with unpacked(dataset, source, work) as images:
                    files = stamps(source, None if images != source else items_of(dataset, source))
                    _write(dataset, images, size, work / "new")
                if place.exists():
                    place.rename(work / "old")
                (work / "new").rename(place)
            made = read_prepared(place, dataset, size)
            if files:
                remember(dataset, folder, files, made.content)
            return made
    except Unusable as error:
        raise UserError(f"{place} {error} right after it was written; check the disk", RUN_FAILED) from None
    except OSError as error:
        raise UserError(f"{error.filename or place}: {error.strerror or error}; nothing was prepared; make room, or "
                        "name another folder in SEMIHISTO_PREPARED", RUN_FAILED) from None


def _write(dataset: Dataset, source: Path, size: int, folder: Path) -> None:
    items = items_of(dataset, source)
    ids = [item.id for item in items]
    parts, labels, sizes, tiles = [], [], [], []
    pixels, unreadable, told_at = PixelFingerprint(dataset), [], time.monotonic()
    with open(folder / "native.npz", "wb") as stream, ArrayWriter(stream) as native:
        for number, item in enumerate(items):
            if time.monotonic() - told_at > PATIENCE:
                told_at = time.monotonic()
                logger.info(f"image {number} of {len(items)}")
            try:
                decoded = decode(dataset, item)
            except UserError as error:
                unreadable.append(error)
                continue
            pixels.add(item, decoded)
            image, mask, ignore = decoded
            classes = (mask > 0).astype(np.uint8) if dataset.instances else mask.astype(np.uint8)
            if ignore is not None:
                classes[ignore] = IGNORE
            height, width = mask.shape
            sizes.append((height, width))
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
    if len(unreadable) == 1:
        raise unreadable[0]
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(items)} images cannot be used: {listed(unreadable, SHOWN, '; ')}")
    images, masks = np.stack(parts), np.stack(labels)
    np.save(folder / "images.npy", images)
    np.save(folder / "masks.npy", masks)
    write_json(folder / "index.json", {
        "format": FORMAT, "dataset": dataset.name, "version": dataset.version, "size": size,
        "classes": dataset.classes, "fingerprint": pixels.hexdigest(), "parts": pixels.parts(), "hashes": pixels.hashes,
        "arrays_fingerprint": arrays_fingerprint(ids, images, masks), "native_sha256": sha256(folder / "native.npz"),
        "ids": ids, "groups": columns(items), "native_sizes": sizes, "tiles": tiles,
        "unmasked": [item.id for item in items if item.mask is None],
    })


def _components(classes: np.ndarray) -> np.ndarray:
    """Object ids of a class mask: the 8-connected components of each class but the background."""
    from scipy import ndimage

    objects = np.zeros(classes.shape, np.uint16)
    for value in (int(value) for value in np.unique(classes) if 0 < value != IGNORE):
        parts = ndimage.label(classes == value, structure=np.ones((3, 3)))[0]
        objects = np.where(parts > 0, parts + int(objects.max()), objects)
    return objects
