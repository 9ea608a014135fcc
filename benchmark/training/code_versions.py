"""Versions of everything that may change a run's numbers without changing its specification."""

from __future__ import annotations

import inspect
from pathlib import Path

from benchmark.data.dataset import Dataset
from benchmark.files import sha256
from benchmark.method import Method
from benchmark.registry import METHODS, is_path, split_path

ENGINE = 1  # bump when the same specification no longer gives the same numbers in every method


def code_versions(method: str, dataset: Dataset) -> dict[str, int | str]:
    """Hand-bumped versions of engine, method and data set; of a method from outside also the digest of its file."""
    kind: type[Method] = METHODS.load(method)
    versions: dict[str, int | str] = {
        "engine": ENGINE, "method": kind.numerics, "dataset": dataset.version,
    }
    if method not in METHODS.names():
        file = split_path(method)[0] if is_path(method) else Path(inspect.getfile(kind))
        versions["source"] = sha256(file)[:16]
    return versions
