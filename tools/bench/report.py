"""How long a report of 1,000 made records takes: `python -m tools.bench.report`, a minute on one core."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmark.report.build import build
from tests.made_records import a_thousand_records

KINDS = {"Markdown, LaTeX, CSV": ("md", "tex", "csv"), "page": ("html",), "PNG": ("png",), "PDF": ("pdf",)}


def main() -> None:
    """Print a row for each kind of file."""
    group = a_thousand_records()
    with tempfile.TemporaryDirectory() as place:
        for kind, formats in KINDS.items():
            begun = time.process_time()
            build([group], Path(place), "the command", formats=formats)
            print(f"| {kind} | {time.process_time() - begun:.1f} |", flush=True)


if __name__ == "__main__":
    main()
