"""Where things lie: the checkout's own folders, and the folders that a user may move."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"


def results_folder(given: str | None = None) -> Path:
    """The results folder: the argument, else SEMIHISTO_RESULTS, else ./results."""
    return Path(given or os.environ.get("SEMIHISTO_RESULTS") or "results")


def raw_folder(given: str | None = None) -> Path:
    """Where raw data sets lie: the argument, else SEMIHISTO_DATA, else ./data."""
    return Path(given or os.environ.get("SEMIHISTO_DATA") or "data")


def prepared_folder(given: str | None = None) -> Path:
    """Where prepared arrays are kept: the argument, else SEMIHISTO_PREPARED, else ./data/prepared."""
    return Path(given or os.environ.get("SEMIHISTO_PREPARED") or "data/prepared")
