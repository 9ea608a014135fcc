"""The way of one run through benchmark/, from the command line to its record: how many files a reader has to open.

    python tools/trace_run.py                             # `run` of a tiny one, in a temporary results folder
    PYTHONPATH=OTHER_CHECKOUT python tools/trace_run.py   # the same of another version

A function is met when it is first called. A *stay* is a row of functions of one file that are met one after the other,
a *return* is a stay in a file that was left before. Counted up to the first training step, and to the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from inspect import CO_OPTIMIZED
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import benchmark
from benchmark.cli.main import main as cli_main

ROOT = Path(benchmark.__file__).resolve().parent
TINY = ["data.size=32", "train.steps=2", "train.batch_labelled=2", "train.batch_unlabelled=2", "evaluate.times=1"]


class Trace:
    """Listens to calls, and keeps where every function of benchmark/ was met for the first time."""

    def __init__(self) -> None:
        self.met: dict[CodeType, str] = {}
        self.first_step: int | None = None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or code in self.met or code.co_name.startswith("<") or not code.co_flags & CO_OPTIMIZED:
            return  # the body of a module or of a class is not a function
        file = Path(code.co_filename)
        if file.is_relative_to(ROOT):
            self.met[code] = str(file.relative_to(ROOT))
        elif code.co_name == "losses" and file.is_relative_to(ROOT.parent / "methods") and self.first_step is None:
            self.first_step = len(self.met)


def count(files: list[str]) -> str:
    """Files, stays and returns of a way."""
    stays = [file for file, _ in groupby(files)]
    different = len(set(files))
    return f"{different} files, {len(files)} functions, {len(stays)} stays, {len(stays) - different} returns"


def main() -> None:
    """Run, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="mean_teacher")
    parser.add_argument("--show", action="store_true", help="print the way, a stay a line")
    arguments = parser.parse_args()
    trace = Trace()
    with tempfile.TemporaryDirectory() as results:
        line = ["run", "--method", arguments.method, "--dataset", "synthetic", "--preset", "demo", "--device", "cpu",
                "--results", results, *(part for pair in TINY for part in ("--set", pair))]
        sys.setprofile(trace)
        try:
            cli_main(line)
        finally:
            sys.setprofile(None)
    way = list(trace.met.values())
    if arguments.show:
        for file, functions in groupby(trace.met.items(), key=lambda pair: pair[1]):
            print(f"{file}: {', '.join(code.co_name for code, _ in functions)}")
    print(f"to the first training step: {count(way[: trace.first_step])}")
    print(f"to the record: {count(way)}")


if __name__ == "__main__":
    main()
