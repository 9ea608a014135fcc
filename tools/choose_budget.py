"""Supervised runs under several budgets, compared on validation images alone: how the preset `light` was chosen.

    python -m tools.choose_budget --data DIR --out DIR [--ratios 10 20] [--draws 1] KEY=A,B,C [KEY=...]

Every KEY is a setting, such as `train.steps=200,400,800`; all combinations are run, one after the other, and their
records stay in --out, so that a second call goes on. Printed is the mean Dice of validation images at the last step
by argmax, or that a run diverged; no score of a test image is read.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from benchmark.cli.common_args import key_value, percent
from benchmark.config.compose import parse_overrides
from benchmark.metrics.counts import dice
from benchmark.runs.request import Request, specify
from benchmark.runs.run import RunOptions, run_or_load
from benchmark.runs.run_files import read_counts
from tools.command import at_least, run


def main() -> None:
    """Run what is missing and print one line a combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", type=key_value, metavar="KEY=A,B,C")
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="light")
    parser.add_argument("--ratios", type=percent, nargs="+", default=[10, 20])
    parser.add_argument("--draws", type=at_least(1), default=1)
    arguments = parser.parse_args()
    choices = [[f"{key}={value}" for value in values.split(",")]
               for key, _, values in (setting.partition("=") for setting in arguments.settings)]

    def asked(pairs: tuple[str, ...], ratio: int, draw: int) -> Request:
        return Request("supervised", "glas", ratio=ratio, fold=draw, preset=arguments.preset,
                       overrides=parse_overrides(pairs))

    combinations = list(itertools.product(*choices))
    for pairs, ratio in itertools.product(combinations, arguments.ratios):
        specify(asked(pairs, ratio, 0), "cpu")  # a mistake is told before the first run
    for pairs in combinations:
        print(" ".join(pairs), end="", flush=True)
        for ratio in arguments.ratios:
            found, seconds = [], []
            for draw in range(arguments.draws):
                options = RunOptions(arguments.out, arguments.data, keep="nothing")
                record, _ = run_or_load(asked(pairs, ratio, draw), options)
                if record["status"] != "done":
                    print(f"  {ratio} %: {record['status']} (draw {draw})", end="", flush=True)
                    break
                counts = read_counts(arguments.out / "records" / f"{record['run_id']}.json", record)
                found.append(100 * float(np.nanmean(dice(counts["validation_native"][:, 0]))))
                seconds.append(record["cost"]["wall_seconds"])
            else:
                print(f"  {ratio} %: {np.mean(found):.1f} ({', '.join(f'{one:.1f}' for one in found)}; "
                      f"{np.mean(seconds):.0f} s)", end="", flush=True)
        print(flush=True)


if __name__ == "__main__":
    run(main)
