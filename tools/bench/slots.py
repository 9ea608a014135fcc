"""Do several runs on one device pay? Steps a second of one process, and of several that share it.

    python -m tools.bench.slots [--slots 1,2,4] [--method mean_teacher] [--size 256] [--net unet] [--seconds 20]
                                [--device cuda]

Every process trains the same method on the generated set, all begin together once each has captured and warmed up, and
all stop after the same time; the last count of slots whose steps a second still rose is what `grid --slots` should be.
Memory is a GPU's own count of what is taken, of all processes together.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from functools import partial
from typing import Any

import torch

from benchmark.cli.common_args import seconds as positive_seconds
from benchmark.data.load import load_prepared
from benchmark.data.splits import Split
from benchmark.profiling.profile import Nowhere
from benchmark.runs.request import Request, specify
from benchmark.spec import Spec
from benchmark.training import device as devices
from benchmark.training.setup import build_training
from benchmark.training.trainer import BLOCK, TrainState, run_block
from tools.command import at_least, run

PATIENCE = 60.0  # seconds for the slowest process to be ready; one that has failed never is


def counts(text: str) -> list[int]:
    """The type of --slots: `1,2,4` as [1, 2, 4]."""
    return list(map(at_least(1), text.split(",")))


def specification(method: str, settings: dict[str, Any], device: torch.device) -> tuple[Spec, Split]:
    request = Request(method, "synthetic", preset="fair", overrides=settings)
    return specify(request, device.type)[:2]


def work(settings: dict[str, Any], method: str, name: str, seconds: float, ready: Any, answers: Any) -> None:
    """One process: how many steps it did in `seconds` from when all were ready, and the memory taken then."""
    device = torch.device(name)
    spec, split = specification(method, settings, device)
    training = build_training(spec, load_prepared("synthetic", settings["data.size"]), split, device)
    training.method.train()
    state = TrainState()
    block = partial(run_block, training, state, Nowhere(), BLOCK, lambda: False)
    block()
    ready.wait(PATIENCE)
    begun, before = time.perf_counter(), state.step
    while time.perf_counter() - begun < seconds:
        block()
    spent = time.perf_counter() - begun
    free, total = torch.cuda.mem_get_info(device) if device.type == "cuda" else (0, 0)
    answers.put(((state.step - before) / spent, total - free))
    ready.wait(PATIENCE)  # nobody leaves before all have looked


def main() -> None:
    """Measure, and print a line a count of slots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=counts, default="1,2,4")
    parser.add_argument("--method", default="mean_teacher")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--net", default="unet")
    parser.add_argument("--seconds", type=positive_seconds, default=20.0)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    device = devices.choose(arguments.device)
    settings = {"data.size": arguments.size, "net.name": arguments.net, "train.steps": 10**6}
    specification(arguments.method, settings, device)  # a mistake is told once, here
    load_prepared("synthetic", arguments.size)  # once, before several ask for it
    context, first = multiprocessing.get_context("spawn"), 0.0
    for slots in arguments.slots:
        ready, answers = context.Barrier(slots), context.Queue()
        given = (settings, arguments.method, str(device), arguments.seconds, ready, answers)
        processes = [context.Process(target=work, args=given) for _ in range(slots)]
        for process in processes:
            process.start()
        found = [answers.get(timeout=2 * PATIENCE + arguments.seconds) for _ in processes]
        for process in processes:
            process.join()
        rate, taken = sum(rate for rate, _ in found), max(taken for _, taken in found)
        first = first or rate
        print(f"{slots} slots: {rate:.2f} steps/s together, {rate / first:.2f} times the first; "
              f"{taken / 2**30:.1f} GiB taken", flush=True)


if __name__ == "__main__":
    run(main)
