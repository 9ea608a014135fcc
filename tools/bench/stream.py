"""What streaming costs beside images that lie on the device, in turns in one process.

    python -m tools.bench.stream [--method supervised] [--size 96] [--net unet_small] [--rounds 15] [--device cpu]

Prints the seconds of a step either way (of processor time on a CPU), the median of the ratios of paired rounds of
sixteen steps, and on a CPU, where every step is exact, whether the weights are equal.
"""

from __future__ import annotations

import argparse
import os
from functools import partial

import numpy as np

from benchmark.conformance.checks import differences
from benchmark.data.load import load_prepared
from benchmark.profiling.profile import Nowhere
from benchmark.runs.request import Request, specify
from benchmark.training import device as devices
from benchmark.training.setup import build_training
from benchmark.training.trainer import BLOCK, TrainState, run_block
from tools.command import at_least, run


def main() -> None:
    """Measure, and print one line for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="supervised")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--net", default="unet_small")
    parser.add_argument("--rounds", type=at_least(1), default=15)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = devices.choose(arguments.device)
    settings = {"data.size": arguments.size, "net.name": arguments.net, "train.steps": BLOCK * (arguments.rounds + 1)}
    spec, split, *_ = specify(Request(arguments.method, "synthetic", preset="quick", overrides=settings), device.type)
    trainings = []
    for share in ("1", "0"):
        os.environ["SEMIHISTO_RESIDENT"] = share
        trainings.append(build_training(spec, load_prepared("synthetic", arguments.size), split, device))
        trainings[-1].method.train()
    for training in trainings:
        run_block(training, TrainState(), Nowhere(), BLOCK, lambda: False)  # warms up, and captures
    seconds = []
    for first in range(BLOCK, BLOCK * (arguments.rounds + 1), BLOCK):
        works = [partial(run_block, training, TrainState(first), Nowhere(), BLOCK, lambda: False)
                 for training in trainings]
        seconds.append([devices.own_seconds(device, work) / BLOCK for work in works])
    resident, streamed = trainings
    times = np.array(seconds)
    ratio, weights = np.median(times[:, 1] / times[:, 0]), ""
    if device.type == "cpu":
        differ = differences(resident.method.state_dict(), streamed.method.state_dict())
        weights = f"; weights {'differ' if differ else 'equal'}"
    print(f"{arguments.method}, {arguments.net}, {arguments.size} px: resident {np.median(times[:, 0]):.4f} s a step, "
          f"streamed {np.median(times[:, 1]):.4f}; streamed over resident: median {ratio:.3f} of {len(times)} rounds"
          f"{weights}")


if __name__ == "__main__":
    run(main)
