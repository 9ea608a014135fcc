"""Things that several test files make."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.conformance.run import SMALL
from benchmark.conformance.testbed import MethodTestbed
from benchmark.data.load import load_prepared
from benchmark.runs.request import Request, specify


def method_testbed(method: str, device: str = "cpu", **overrides: Any) -> MethodTestbed:
    """`method` on the embedded images, four steps at 32 px; settings as `train__steps=12` or by their own names."""
    settings = SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
    spec, split, *_ = specify(Request(method, "synthetic", preset="demo", overrides=settings), device)
    return MethodTestbed(spec, load_prepared("synthetic", spec.values["data.size"]), split, torch.device(device))


class Nowhere:
    """A store that keeps nothing."""

    def load_checkpoint(self): return None
    def save_checkpoint(self, state): pass
    def start_log(self, step): pass
    def log(self, lines): pass
