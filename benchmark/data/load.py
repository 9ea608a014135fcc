"""A data set by its name or path, and its prepared arrays: read, or prepared and read."""

from __future__ import annotations

import logging
import os
import shlex
from pathlib import Path

from benchmark.data.dataset import Dataset
from benchmark.data.folder_dataset import FILE, FolderDataset
from benchmark.data.prepare import prepare as make
from benchmark.data.source import content_of, recall
from benchmark.data.store import ABSENT, PreparedData, Unusable
from benchmark.data.store import read as read_arrays
from benchmark.errors import UserError
from benchmark.paths import prepared_folder, raw_folder
from benchmark.plugins import is_path, portable
from benchmark.registry import DATASETS

logger = logging.getLogger(__name__)

SIZES = range(16, 4097)  # pixels a side


def names() -> list[str]:
    """Every data set there is by name, ours and those of installed packages."""
    return [*DATASETS.names(), *DATASETS.outside()]


def load_dataset(given: str, name: str = "") -> Dataset:
    """The data set that a user names: by a name of `names()`, by `path/to/file.py:Class`, or by the path of a folder
    with a dataset.yaml, or of that file.

    name: what it must be called, where a record says so: another may lie in that folder by now.
    UserError, with a suggestion, where there is none."""
    dataset: Dataset
    folder = Path(given).parent if Path(given).name == FILE else Path(given)
    if given not in names() and not is_path(given) and (os.sep in given or folder.is_dir()):
        dataset = FolderDataset(folder)
        path = os.path.normpath(folder)
        dataset.source = path if os.sep in path else os.path.join(".", path)  # never taken for a name
    else:
        dataset = DATASETS.load(given)()
        dataset.name, dataset.source = portable(given), given
    if name and dataset.name != name:
        raise UserError(f"{given}: the data set is called '{dataset.name}', not '{name}'")
    return dataset


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
    folder = _folder(dataset, root)
    there, trouble = None, ABSENT
    try:
        there = read_arrays(folder / str(size), dataset, size)
    except Unusable as error:
        trouble = str(error)
    if not prepare:
        if there is not None:
            return there
        raise UserError(f"{folder / str(size)}: the prepared {dataset.name} {trouble}; make it with "
                        f"'python -m benchmark data prepare {shlex.quote(dataset.source)} --size {size}'")
    try:
        source = dataset.find(raw_folder(str(raw) if raw else None))
    except UserError as error:
        if there is not None and raw is None:
            return there
        if trouble == ABSENT:
            raise
        raise UserError(f"{folder / str(size)} {trouble} and cannot be prepared again: {error}", error.code) from None
    content = content_of(dataset, source, folder, read=read) if there else None
    if there is not None and content in (None, there.content):
        return there
    if there is not None:
        trouble = f"was made from other images, masks or groups than {source} has"
    if trouble != ABSENT:
        logger.warning(f"{folder / str(size)} {trouble}: preparing {dataset.name} again")
    return make(dataset, size, source, folder, content)


def current_fingerprint(
    dataset: Dataset, *, raw: str | Path | None = None, root: str | Path | None = None, read: bool = True
) -> str | None:
    """The fingerprint of the pixels that a run would be trained on now.

    None where it is not known: neither raw nor prepared data are here, or they are generated. Without `read` also where
    they were never read here, and where something is wrong with them, which is for others to say."""
    folder = _folder(dataset, root)
    try:
        source = dataset.find(raw_folder(str(raw) if raw else None))
    except UserError:
        if raw is not None:
            raise
        known = recall(dataset, folder)
        return known.pixels if known else None
    try:
        known = content_of(dataset, source, folder) if read or recall(dataset, folder) else None
    except UserError:
        if read:
            raise
        return None
    return known.pixels if known else None


def _folder(dataset: Dataset, root: str | Path | None) -> Path:
    return prepared_folder(str(root) if root else None) / dataset.prepared_name
