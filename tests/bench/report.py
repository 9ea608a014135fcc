"""How long a report of 1,000 made records takes: `python -m tests.bench.report`, a minute on one core."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmark.report.build import build
from tests.test_report import evidence, only, record

KINDS = {"Markdown, LaTeX, CSV": ("md", "tex", "csv"), "page": ("html",), "PNG": ("png",), "PDF": ("pdf",)}


def main() -> None:
    """Print a row for each kind of file."""
    counts = [evidence(seed, images=40, evaluations=10) for seed in range(5)]
    history = [{"step": 10 * k, "supervised": 1 / k, "unlabelled": 0.1} for k in range(1, 11)]
    records = [
        record(f"method_{name:02}", ratio=ratio, fold=fold, counts=counts[fold], history=history)
        for name in range(50) for ratio in (5, 10, 20, 50) for fold in range(5)
    ]  # fmt: skip
    group = replace(only(records), reference="method_00")
    with tempfile.TemporaryDirectory() as place:
        for kind, formats in KINDS.items():
            begun = time.process_time()
            build([group], Path(place), "the command", formats=formats)
            print(f"| {kind} | {time.process_time() - begun:.1f} |", flush=True)


if __name__ == "__main__":
    main()
