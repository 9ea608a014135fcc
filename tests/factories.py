"""Things that several test files make."""

from pathlib import Path
from typing import Any

import torch

from benchmark.conformance.testbed import MethodTestbed
from benchmark.data.dataset import Dataset
from benchmark.data.splits import read_split, split_names
from benchmark.nets import weights


def method_testbed(method: str, device: str = "cpu", **overrides: Any) -> MethodTestbed:
    """`method` on the embedded images, four steps at 32 px; settings as `train__steps=12` or by their own names."""
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return MethodTestbed.of(method, torch.device(device), **settings)


def offered(dataset: Dataset) -> dict[str, tuple[list[int], int]]:
    """The splits of a data set that have a file, each with the ratios of its lists and its number of folds."""
    found = {name: read_split(dataset, name)["folds"] for name in split_names(dataset)}
    return {name: ([*map(int, folds[0]["labelled"]), 100], len(folds)) for name, folds in found.items()}


def digest_of(file: Path) -> str:
    """What a specification has in place of a file of weights."""
    values = {"net.weights": str(file), "net.name": "smp/unet-tu-resnet18", "data.normalise": "auto"}
    return weights.resolve(values)["net.weights"]
