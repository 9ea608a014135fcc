"""What `torch.compile` is worth on a CPU: `python -m tools.bench.compiled`. Seconds of one core, sides in turns.

A step is forward pass, cross-entropy and backward pass of 8 random images at 160 px through `unet_lite`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmark.nets import build
from benchmark.training import device as devices
from tools.command import at_least, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="unet_lite")
    parser.add_argument("--size", type=at_least(1), default=160)
    parser.add_argument("--rounds", type=at_least(1), default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = build(arguments.net, size=arguments.size).to(memory_format=torch.channels_last).train()
    image = torch.randn(8, 3, arguments.size, arguments.size).to(memory_format=torch.channels_last)
    mask = torch.randint(0, 2, (8, arguments.size, arguments.size))

    def step(network: Callable[[Tensor], Tensor]) -> None:
        cross_entropy(network(image), mask).backward()

    plain, compiled = net, torch.compile(copy.deepcopy(net))
    begun = time.perf_counter()
    step(compiled)
    print(f"first compiled step: {time.perf_counter() - begun:.0f} s, compiling included")
    step(plain)
    timed, works = partial(devices.own_seconds, torch.device("cpu")), (partial(step, plain), partial(step, compiled))
    pairs = [[timed(work) for work in works] for _ in range(arguments.rounds)]
    ratios = [one / other for one, other in pairs]
    print(
        f"steps a second, compiled over plain: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)"
    )


if __name__ == "__main__":
    run(main)
