"""Things that several test files make."""

from typing import Any

import torch

from benchmark.conformance.testbed import MethodTestbed


def method_testbed(method: str, device: str = "cpu", **overrides: Any) -> MethodTestbed:
    """`method` on the embedded images, four steps at 32 px; settings as `train__steps=12` or by their own names."""
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return MethodTestbed.of(method, torch.device(device), **settings)


class Nowhere:
    """A store that keeps nothing."""

    def load_checkpoint(self): return None
    def save_checkpoint(self, state): pass
    def start_log(self, step): pass
    def log(self, lines): pass
    def log_scores(self, step, scores): pass
