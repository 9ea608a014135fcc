"""Golden losses: ten steps of every method in float64 on one thread. `python -m tools.golden` writes them anew."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmark.conformance.testbed import MethodTestbed, advance
from benchmark.registry import METHODS

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "golden"
STEPS = 10
SETTINGS = {
    "data.size": 32, "train.steps": STEPS, "train.batch_labelled": 2, "train.batch_unlabelled": 2,
    "train.precision": "fp64", "augment.crop": 0.5, "evaluate.times": 1,
}
GENTLE = {"dtc": {"method.slope": 50.0}}  # at 1500 a rounding error grows 60 times a step, so processors would differ


def losses(method: str) -> dict:
    """Every term of every step, and the numerics versions that they belong to."""
    torch.set_num_threads(1)
    training = MethodTestbed.of(method, torch.device("cpu"), **SETTINGS | GENTLE.get(method, {})).build()
    return {"numerics": training.versions, "losses": advance(training, 0, STEPS)}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in METHODS.names():
        (FOLDER / f"{name}.json").write_text(json.dumps(losses(name), indent=1) + "\n")
        print(FOLDER / f"{name}.json")
