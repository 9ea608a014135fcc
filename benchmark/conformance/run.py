"""A method tried on the embedded data: its conformance suite, check by check."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmark.conformance.checks import conformance
from benchmark.conformance.testbed import STEPS, MethodTestbed
from benchmark.data.load import load_prepared
from benchmark.runs.request import Request, specify

SMALL = {
    "data.size": 32, "train.steps": STEPS, "train.batch_labelled": 3, "train.batch_unlabelled": 3, "evaluate.times": 1,
}


def trial(method: str, device: torch.device, only: tuple[str, ...] = ()) -> Iterator[tuple[str, str | None]]:
    """Every check's name (or those of `only`) and its complaint, None where it passed."""
    spec, split, *_ = specify(Request(method, "synthetic", preset="demo", overrides=SMALL), device.type)
    return conformance(MethodTestbed(spec, load_prepared("synthetic", spec.values["data.size"]), split, device), only)
