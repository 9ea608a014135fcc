"""What a grid costs beside its runs: `python -m tools.bench.grid [--runs 6 --steps 120]`, a few minutes on one core.

The grid has one slot and does one run after the other, each in a process of its own. A run's own time is what its
record says, from its first step to its last score. All other time between the first record and the last is the grid's:
it plans, forks a process, locks the run, reads the data, builds networks, and writes. The start of the grid is printed
separately. The share is given for runs of a minute, because the cost does not depend on a run's length.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.command import at_least, run

ROOT = Path(__file__).resolve().parent.parent.parent


def measure(runs: int, steps: int, method: str, settings: str) -> None:
    """Run a grid of one slot and print where its time went."""
    with tempfile.TemporaryDirectory() as place:
        experiment, results = Path(place) / "cost.yaml", Path(place) / "results"
        rows = [
            f"  run{n}: {{method: {method}, set: {{train.steps: {steps}, optimiser.lr: {n + 1}e-4, {settings}}}}}"
            for n in range(runs)
        ]
        experiment.write_text("preset: demo\ndatasets: [synthetic]\ndraws: [0]\nrows:\n" + "\n".join(rows) + "\n")
        line = [sys.executable, "-m", "benchmark", "grid", experiment, "--slots", "1", "--results", results]
        begun = time.time()
        code = subprocess.run(list(map(str, line)), cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ).returncode
        if code:
            sys.exit(code)  # the grid has said why
        ended = time.time()
        records = sorted((results / "records").glob("*.json"), key=lambda path: path.stat().st_mtime)
        written = [path.stat().st_mtime for path in records]
        inside = [json.loads(path.read_text())["cost"]["wall_seconds"] for path in records]
    between = (written[-1] - written[0] - sum(inside[1:])) / (runs - 1)
    print(f"{runs} runs of {sum(inside) / runs:.2f} s; start to first record, without its run: "
          f"{written[0] - begun - inside[0]:.1f} s; last record to end: {ended - written[-1]:.1f} s")
    print(f"the grid's own cost: {between:.3f} s a run, {between / 60:.2%} of a run of a minute")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=at_least(2), default=6)
    parser.add_argument("--steps", type=at_least(1), default=120)
    parser.add_argument("--method", default="supervised")
    parser.add_argument("--settings", default="evaluate.times: 5", help="more of them, as in 'data.size: 96'")
    arguments = parser.parse_args()
    measure(**vars(arguments))


if __name__ == "__main__":
    run(main)
