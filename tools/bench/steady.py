"""Is the last step as quick as the first, and does memory stay what it was?

    python -m tools.bench.steady [--method mean_teacher] [--size 96] [--steps 480] [--device cpu] [--preset quick]

Trains on the generated set with the harness's own loop, its evaluations and checkpoints included, and prints for every
tenth of the run the median seconds a step and the process's memory (on a GPU the allocator's, too). Drift: the slope
of a straight line through the seconds of all blocks, as a share of their median over the whole run, and its error.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmark.data.load import load_prepared
from benchmark.method import Method
from benchmark.runs.request import Request, specify
from benchmark.runs.run_files import RunFolder
from benchmark.training import device as devices
from benchmark.training.setup import build_training
from benchmark.training.trainer import BLOCK, train
from tools.command import at_least, run

TENTHS = 10  # of the run, each with an evaluation and a line of its own
LEAST = TENTHS * BLOCK + 1  # steps: fewer are too few blocks for a line each, and one that warms up


def resident_bytes() -> int:
    """Memory of this process that is in use, by the kernel's count."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def slope(times: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """The change over the whole run of a fitted line, and its standard error, both as shares of the median."""
    place = (times - times.min()) / (times.max() - times.min())
    fit, covariance = np.polyfit(place, seconds, 1, cov=True)
    return fit[0] / np.median(seconds), float(np.sqrt(covariance[0, 0])) / np.median(seconds)


def main() -> None:
    """Train once and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="mean_teacher")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=at_least(LEAST), default=480)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="quick")
    arguments = parser.parse_args()
    device = devices.choose(arguments.device)
    settings = {"data.size": arguments.size, "train.steps": arguments.steps, "evaluate.times": TENTHS}
    request = Request(arguments.method, "synthetic", preset=arguments.preset, overrides=settings)
    spec, split, *_ = specify(request, device.type)
    training = build_training(spec, load_prepared("synthetic", arguments.size), split, device)
    seen: list[tuple[int, float, int, int]] = []
    begun = [time.process_time() if device.type == "cpu" else time.perf_counter()]
    plans, observe = training.plans, training.evaluator.evaluate

    def block(first: int, count: int) -> list:
        """Plans of a block: its seconds run from here to the next plans, or to an evaluation."""
        begun[0] = time.process_time() if device.type == "cpu" else time.perf_counter()
        return plans(first, count)

    def look(method: Method, step: int) -> dict[str, np.ndarray]:
        note()
        return observe(method, step)

    def note() -> None:
        now = time.process_time() if device.type == "cpu" else time.perf_counter()
        used = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
        seen.append((int(training.clock.step), now - begun[0], resident_bytes(), used))

    def tell(step: int, *_: object) -> None:
        if not seen or seen[-1][0] != step:
            note()

    training.plans, training.evaluator.evaluate = block, look  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as place, (folder := RunFolder(Path(place), spec)).locked():
        train(training, folder, tell=tell, checkpoint_seconds=5.0)
    ends = np.array([step for step, *_ in seen])
    counts = np.diff(ends, prepend=0)
    seconds = np.array([spent for _, spent, _, _ in seen]) / counts
    print("steps | seconds a step | resident MiB | reserved on the GPU MiB")
    for rows in np.array_split(np.arange(1, len(seen)), TENTHS):  # the first block warms up
        last = seen[rows[-1]]
        print(f"{ends[rows[0] - 1]:>5} to {last[0]:<5} | {np.median(seconds[rows]):.4f} | {last[2] / 2**20:.1f} | "
              f"{last[3] / 2**20:.1f}")
    drift, error = slope(ends[1:].astype(float), seconds[1:])
    print(f"drift over the run: {drift:+.3f} ± {error:.3f} of the median step")


if __name__ == "__main__":
    run(main)
