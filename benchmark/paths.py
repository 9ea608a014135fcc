"""Where things lie: what comes with the suite, and the folders that a user may move."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of the packages `benchmark` and `methods`: a checkout, or where an installed wheel lies
IS_CHECKOUT = (ROOT / "pyproject.toml").is_file()
CONFIGS = ROOT / "configs" if IS_CHECKOUT else PACKAGE / "configs"  # a wheel carries a copy


def results_folder(given: str | Path | None = None) -> Path:
    """The results folder: the argument, else SEMIHISTO_RESULTS, else ./results."""
    return Path(given or os.environ.get("SEMIHISTO_RESULTS") or "results")


def raw_folder(given: str | Path | None = None) -> Path:
    """Where raw data sets lie: the argument, else SEMIHISTO_DATA, else ./data."""
    return Path(given or os.environ.get("SEMIHISTO_DATA") or "data")


def prepared_folder(given: str | Path | None = None) -> Path:
    """Where prepared arrays are kept, wherever one stands: the argument, else SEMIHISTO_PREPARED, else data/prepared of
    the checkout; of an installed wheel the user's cache, ~/.cache/semihisto/prepared."""
    if chosen := given or os.environ.get("SEMIHISTO_PREPARED"):
        return Path(chosen)
    if IS_CHECKOUT:
        return ROOT / "data" / "prepared"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "semihisto" / "prepared"


def splits_folder(dataset: str) -> Path:
    """Where the split files of a data set without a folder of its own lie: with the suite's, or, of a data set that an
    installed wheel does not know, in ./configs/splits."""
    shipped = CONFIGS / "splits" / dataset
    return shipped if IS_CHECKOUT or shipped.is_dir() else Path("configs", "splits", dataset)
