"""What a data set is called: a name of ours, or of a folder of one's own `path/to/folder:name`, as its file says it.

The path says where it lies, the name what it is: run ids, tables and settings know the name alone, so that a folder
that is moved gives the same runs.
"""

from __future__ import annotations

import os
from pathlib import Path


def is_own(dataset: str) -> bool:
    """Whether this names a folder of one's own, not a data set of ours or a class in a Python file."""
    return os.sep in dataset and ".py:" not in dataset and not dataset.endswith(".py")


def short(dataset: str) -> str:
    """The name alone."""
    return dataset.rpartition(":")[2] if is_own(dataset) else dataset


def folder_of(dataset: str) -> Path:
    """The folder of a data set of one's own."""
    return Path(dataset.rpartition(":")[0])


def path_of(folder: Path) -> str:
    """A folder's path as `is_own` knows it: relative if it was given so, and never a bare name."""
    path = os.path.normpath(folder)
    return path if os.sep in path else os.path.join(".", path)
