"""A data set by its name or path, and its prepared arrays: read, or prepared and read."""

from __future__ import annotations

import logging
import os
import shlex
from pathlib import Path

from benchmark.data.dataset import Dataset
from benchmark.data.folder_dataset import FolderDataset
from benchmark.data.folder_schema import FILE
from benchmark.data.prepare import prepare as make
from benchmark.data.store import ABSENT, PreparedData, Unusable, read
from benchmark.errors import UserError
from benchmark.paths import prepared_folder, raw_folder
from benchmark.plugins import is_path, portable
from benchmark.registry import DATASETS

logger = logging.getLogger(__name__)


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
    if given not in names() and not is_path(given) and (os.sep in given or (folder / FILE).is_file()):
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
    prepare: bool = True, again: bool = False,
) -> PreparedData:
    """The data set at this working size, prepared first where it is not yet, or damaged, or to be made `again`.

    raw: where raw data sets lie (else SEMIHISTO_DATA, else ./data). root: where prepared ones are kept.
    UserError: unknown name; no raw data (what to get and where to put it); bad files; `prepare=False` and not there.
    """
    dataset = load_dataset(dataset) if isinstance(dataset, str) else dataset
    folder = prepared_folder(str(root) if root else None) / dataset.prepared_name / str(size)
    if again:
        return make(dataset, size, raw_folder(str(raw) if raw else None), folder, again=True)
    try:
        return read(folder, dataset, size)
    except Unusable as error:
        trouble = str(error)
    if not prepare:
        raise UserError(f"{folder}: the prepared {dataset.name} {trouble}; make it with "
                        f"'python -m benchmark data prepare {shlex.quote(dataset.source)} --size {size}'")
    missing = trouble == ABSENT  # not asked of the disk again: another worker may just have finished it
    if not missing:
        logger.warning(f"{folder} {trouble}: preparing {dataset.name} again")
    try:
        return make(dataset, size, raw_folder(str(raw) if raw else None), folder)
    except UserError as error:
        if missing:
            raise
        raise UserError(f"{folder} {trouble} and cannot be prepared again: {error}", error.code) from None
