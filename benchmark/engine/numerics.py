"""Versions of everything that may change a run's numbers without changing its specification."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.dataset import load_dataset
from benchmark.files import sha256
from benchmark.method import Method
from benchmark.registry import METHODS

ENGINE = 1  # bump when the same specification no longer gives the same numbers in every method


def numerics(method: str, dataset: str) -> dict[str, int | str]:
    """Hand-bumped versions of engine, method and data set; of a method's file from outside, its digest."""
    kind: type[Method] = METHODS.load(method)
    versions: dict[str, int | str] = {
        "engine": ENGINE, "method": kind.numerics, "dataset": load_dataset(dataset).version,
    }
    if ".py:" in method:
        versions["source"] = sha256(Path(method.rpartition(":")[0]))[:16]
    return versions
