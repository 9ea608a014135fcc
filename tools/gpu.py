"""What the first minutes on a GPU are for, in order of value, each part within a share of the time.

    python -m tools.gpu --minutes 9 --out DIR [--data DIR] [--dry-run]

The tests that need a GPU, the cost of every method, the loop in the published style, several runs on one device, images
streamed to it, then runs of the experiment `main`. Every part is a process of its own: what it prints goes to
DIR/PART.txt, what became of it to DIR/summary.md as soon as it ends; a part that fails or takes too long ends no other.
Time that a part leaves goes to those after it. Runs are stopped as by Ctrl-C and go on from their checkpoints when they
are asked for again. `--dry-run` prints the order, the limits and the commands.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.load import load_dataset
from benchmark.errors import UserError
from benchmark.files import write_text
from benchmark.paths import raw_folder
from benchmark.registry import METHODS
from tools import command

GRACE = 15.0  # seconds that a part has to end after it was told to, and the summary to be written
FIRST = ("supervised", "semimoe", "ensemble", "mean_teacher", "unimatch", "cps", "fixmatch")  # then every other method


@dataclass(frozen=True)
class Part:
    """One question: its share of the time, the commands that answer it, and what follows from an answer."""

    name: str
    share: float
    commands: tuple[tuple[str, ...], ...]
    then: str


@dataclass(frozen=True)
class Ended:
    """What became of a part (`done`, `failed`, `out of time`, `not begun`), its last line, the command to repeat."""

    part: Part
    state: str
    seconds: float
    last: str
    command: str


def parts(out: Path, data: str | None) -> list[Part]:
    """What is asked of a GPU, the most valuable first."""
    python, raw = (sys.executable, "-m"), ("--data", data) if data else ()
    large = ("--net", "unet", "--size", "256", "--device", "cuda")

    def measure(name: str, *more: str) -> tuple[tuple[str, ...], ...]:
        return ((*python, f"tools.bench.{name}", *more),)

    def cells(method: str, ratio: int) -> tuple[str, ...]:
        only = (f"method={method}", f"ratio={ratio}", "draw=0")
        chosen = tuple(word for pair in only for word in ("--only", pair))
        return (*python, "benchmark", "grid", "main", *chosen, *raw, "--results", str(out / "results"), "--slots", "1")

    methods = dict.fromkeys((*FIRST, *METHODS.names()))
    # only these files: others need packages that such a machine may lack, and pytest would then run none
    files = [str(path) for path in sorted(Path("tests").glob("test_*.py")) if "pytest.mark.gpu" in path.read_text()]
    several = ("-n", "4", "--dist", "load", "-p", "no:cacheprovider", "--tb=short")
    tests = (*python, "pytest", "-m", "gpu", *several, *files)
    profile = (*python, "benchmark", "profile", "--preset", "fair", "--device", "cuda", "--seconds", "3", "--method")
    runs = (cells("supervised", 100), *(cells(method, ratio) for ratio in (20, 10) for method in methods))
    asked = [
        Part("tests", 0.35, (tests,), "a failure here is repaired before any number below is used"),
        Part("profile", 0.15, tuple((*profile, method) for method in methods),
             "the table of docs/performance.md; train.capture and train.precision stay where the overhead is below "
             "1.03"),
        Part("published", 0.12, measure("published", *large, "--steps", "24", "--rounds", "3"),
             "steps a second and memory beside the published style, for docs/performance.md"),
        Part("slots", 0.12, measure("slots", "--slots", "1,2,4", "--seconds", "6"),
             "the last count whose steps a second rose is what `grid --slots` takes from here on"),
        Part("stream", 0.06, measure("stream", *large, "--rounds", "5"), "whether images can stay on the host"),
        Part("main", 0.20, runs, f"copy the records with `python -m benchmark records merge {out / 'results'}`, then "
                                 "go on with `python -m benchmark grid main`"),
    ]
    try:
        load_dataset("glas").find(raw_folder(data))
    except UserError as error:
        print(f"main is left out: {error}", file=sys.stderr)
        asked.pop()
    return asked


def limits(shares: Sequence[float], left: float) -> float:
    """Seconds for the first of these parts, when `left` remain for all of them."""
    return max(0.0, left) * shares[0] / sum(shares)


def run_all(plan: Sequence[Part], seconds: float, out: Path) -> list[Ended]:
    """Run the parts in order within `seconds`; the summary is written anew after each."""
    out.mkdir(parents=True, exist_ok=True)
    end, ended = time.monotonic() + seconds - GRACE, []
    for place, part in enumerate(plan):
        limit = limits([each.share for each in plan[place:]], end - time.monotonic())
        ended.append(run(part, limit, out))
        write_text(out / "summary.md", summary([*ended, *(waiting(each) for each in plan[place + 1 :])]))
        print(f"{part.name}: {ended[-1].state} after {ended[-1].seconds:.0f} s of {limit:.0f}", flush=True)
    return ended


def run(part: Part, limit: float, out: Path) -> Ended:
    """The part's commands in turn, until `limit` seconds have passed; one that fails does not end the others."""
    begun, state, repeat = time.monotonic(), "done", part.commands[0]
    with open(out / f"{part.name}.txt", "w", encoding="utf-8") as log:
        for command in part.commands:
            left = begun + limit - time.monotonic()
            if left <= 1:
                state, repeat = "out of time" if state == "done" else state, command
                break
            log.write(f"$ {shlex.join(command)}\n")
            log.flush()
            code = _within(command, left, log)
            if code is None:
                state, repeat = "out of time" if state == "done" else state, command
                break
            if code and state == "done":
                state, repeat = "failed", command
    lines = (out / f"{part.name}.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return Ended(part, state, time.monotonic() - begun, last[:160], shlex.join(repeat))


def _within(command: Sequence[str], seconds: float, log: object) -> int | None:
    """The command's exit code, None where it had to be stopped: its whole group, asked first."""
    try:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)  # type: ignore
    except OSError as error:
        log.write(f"{error}\n")  # type: ignore[attr-defined]
        return 127
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # at which pytest still says what has failed
        try:
            process.wait(GRACE / 2)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return None


def waiting(part: Part) -> Ended:
    """A part that has not begun."""
    return Ended(part, "not begun", 0.0, "", shlex.join(part.commands[0]))


def summary(ended: Sequence[Ended]) -> str:
    """Markdown: what became of each part, and what to do next, the first trouble first."""
    rows = [f"| {one.part.name} | {one.state} | {one.seconds:.0f} | {one.last.replace('|', '/')} |" for one in ended]
    todo = [
        f"- {one.part.name} failed: read {one.part.name}.txt, repair, and run `{one.command}`"
        for one in ended if one.state == "failed"
    ]
    todo += [
        f"- {one.part.name} {one.state}: run `{one.command}`"
        for one in ended if one.state in ("out of time", "not begun")
    ]
    todo += [f"- {one.part.name}: {one.part.then}" for one in ended if one.state in ("done", "out of time")]
    return "\n".join(["| part | state | seconds | last line |", "|:--|:--|--:|:--|", *rows, "", "Next:", *todo, ""])


def main() -> int:
    """Measure, or say what would be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data")
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    if not arguments.minutes >= 1:
        raise UserError(f"--minutes {arguments.minutes:g}: give at least 1; fewer end before the first test")
    plan, seconds = parts(arguments.out, arguments.data), 60 * arguments.minutes
    if arguments.dry_run:
        whole = sum(part.share for part in plan)
        for part in plan:
            limit = part.share / whole * (seconds - GRACE)
            print(f"{part.name}: {limit:.0f} s\n" + "\n".join(map(shlex.join, part.commands)))
        return 0
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and its children, ignore it
    if not torch.cuda.is_available():
        raise UserError("tools.gpu needs a CUDA device, and torch sees none; --dry-run prints what it would do")
    return int(any(one.state == "failed" for one in run_all(plan, seconds, arguments.out)))


if __name__ == "__main__":
    command.run(main)
