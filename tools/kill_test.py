"""Grids whose processes are killed all the time, and every run must end with one whole record.

    python -m tools.kill_test                200 runs, one grid of 6 workers; a worker, or the grid, killed
                                             every 2 to 4 s for a minute
    python -m tools.kill_test --grids 2      the same runs by two grids of 3 workers that share the folder alone
    python -m tools.kill_test --runs 24      fewer; also --workers, --seconds

Where the system allows it, each of several grids gets a host name and process ids of its own, as if on two machines.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmark.cli.common_args import seconds
from benchmark.paths import ROOT
from benchmark.runs.run_files import read_counts, read_record
from tools.command import at_least, run

STEPS = 6
LEAST = 2  # kills, without which a battle shows nothing
METHOD = """
import os, time
from methods.supervised import Supervised

class Witnessed(Supervised):
    '''Nobody 2026: notes in $WITNESS which process takes which step of which run, and when.'''

    def __init__(self, task, *, number: int = 0) -> None:
        super().__init__(task)
        self.number = number

    def losses(self, labelled, unlabelled, clock):
        with open(os.environ["WITNESS"], "a") as file:
            file.write(f"{self.number} {os.uname().nodename}:{os.getpid()} {time.monotonic_ns()}" + chr(10))
        return super().losses(labelled, unlabelled, clock)
"""


@dataclass
class Battle:
    """What came of it: workers killed, grids started again, seconds in all, runs that were begun more than once."""

    results: Path
    kills: int = 0
    restarts: int = 0
    seconds: float = 0.0
    begun_again: int = 0


def battle(folder: Path, *, runs: int, workers: int, seconds: float, grids: int, seed: int = 0) -> Battle:
    """Run `runs` tiny runs in `grids` grids of `workers` together; check what is left.

    From the first worker on, one is killed now and then, for `seconds`, and on a slow machine until LEAST are.
    """
    method, experiment, witness = folder / "witnessed.py", folder / "chaos.yaml", folder / "witness"
    method.write_text(METHOD)
    settings = f"data.size: 32, train.steps: {STEPS}, train.batch_labelled: 2, evaluate.times: 1"
    rows = [
        f'  run{number}: {{method: "{method}:Witnessed", set: {{method.number: {number}, {settings}}}}}'
        for number in range(runs)
    ]
    experiment.write_text("preset: demo\ndatasets: [synthetic]\ndraws: [0]\nrows:\n" + "\n".join(rows) + "\n")
    found, chance = Battle(folder / "results"), random.Random(seed)
    command = [sys.executable, "-m", "benchmark", "grid", experiment, "--device", "cpu"]
    command += ["--slots", workers // grids, "--results", found.results]
    begun, fight = time.monotonic(), None
    env = os.environ | {"WITNESS": str(witness), "SEMIHISTO_HEARTBEAT": "1.0", "OMP_NUM_THREADS": "1"}
    running: dict[int, subprocess.Popen[bytes]] = {}
    codes: dict[int, int] = {}
    try:
        while len(codes) < grids or any(codes.values()):
            for number in range(grids):
                if number not in running and codes.get(number) != 0:
                    line = [*apart(f"host{number}", grids), *map(str, command)]
                    with open(folder / f"grid{number}.log", "a") as log:
                        running[number] = subprocess.Popen(line, cwd=ROOT, env=env, stdout=log, stderr=log)
                    found.restarts += number in codes
            if fight is None and any(any(worker_ids(grid.pid)) for grid in running.values()):
                fight = time.monotonic()  # where starting takes long, there was nobody to kill before
            fighting = fight is None or time.monotonic() - fight < seconds or found.kills < LEAST
            time.sleep(chance.uniform(1, 2) if fighting else 0.5)
            if fight is not None and fighting:
                found.kills += kill_one(list(running.values()), chance)
            for number, grid in list(running.items()):
                if grid.poll() is not None:
                    codes[number] = grid.returncode
                    del running[number]
            logs = "".join(log.read_text()[-2000:] for log in folder.glob("grid*.log"))
            assert found.restarts <= found.kills + grids, f"grids end without having been killed: {logs}"
            assert time.monotonic() - begun < seconds + 300 + 10 * runs, f"the grids do not end: {logs}"
    finally:
        for grid in running.values():
            grid.kill()  # its workers end when they find it gone
            grid.wait()
    found.seconds = time.monotonic() - begun
    examine(found, witness, runs)
    return found


def kill_one(grids: list[subprocess.Popen[bytes]], chance: random.Random) -> int:
    """Kill a worker or, now and then, a grid: its workers end their runs or, on a machine of its own, die with it.

    Returns how many workers may have lost a run; 0 where no grid has started any yet.
    """
    busy = [(grid, workers) for grid in grids if (workers := list(worker_ids(grid.pid)))]
    if not busy:
        return 0
    grid, workers = chance.choice(busy)
    if chance.random() < 0.9:
        try:
            os.kill(chance.choice(workers), signal.SIGKILL)
        except ProcessLookupError:
            return 0  # it has ended its run meanwhile
        return 1
    grid.kill()
    return len(workers)


def apart(name: str, grids: int) -> list[str]:
    """What makes a command believe that it is on a machine of its own, where there are several and we may."""
    line = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
    allowed = grids > 1 and subprocess.run([*line, "true"], capture_output=True).returncode == 0
    return [*line, "sh", "-c", 'hostname "$0"; exec "$@"', name] if allowed else []


def worker_ids(grid: int) -> Iterator[int]:
    """The processes of runs below a grid's process: the children of its fork server."""
    parents: dict[int, list[int]] = defaultdict(list)
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.read_text().rpartition(")")[2].split()[1])].append(int(status.parent.name))
        except OSError:
            continue
    below = [grid]
    for process in below:
        below.extend(parents[process])
        try:
            line = Path(f"/proc/{process}/cmdline").read_text()
        except OSError:
            continue
        if "multiprocessing.forkserver" in line:
            yield from parents[process]


def examine(found: Battle, witness: Path, runs: int) -> None:
    """Every run has one whole record, the same as if nobody had been killed, and one process at a time worked on it."""
    weights = set()
    paths = sorted((found.results / "records").iterdir())
    for path in paths:
        if path.suffix == ".json":
            record = read_record(path)
            assert record["status"] == "done" and read_counts(path, record), path
            weights.add(record["weights_sha256"])
    assert len(paths) == 2 * runs, "a record and its counts a run, and nothing else"
    assert len(weights) == 1, "the runs differ in their number alone, so a kill has changed what a run comes to"
    assert not list((found.results / "runs").glob("*/lock")), "a lock that was not released"
    assert not list(found.results.rglob(".*")), "something half-written was left"
    steps: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for line in witness.read_text().splitlines():
        number, who, when = line.split()
        steps[number].append((int(when), who))
    assert len(steps) == runs
    for number, events in steps.items():
        turns = [(who, len(list(group))) for who, group in groupby(who for _, who in sorted(events))]
        assert len({who for who, _ in turns}) == len(turns), f"two processes at run {number} at once: {turns}"
        assert turns[-1][1] == STEPS, f"run {number} was not ended by who had it last: {turns}"
        found.begun_again += len(turns) - 1
    assert found.begun_again <= found.kills, "a run was done again that nobody was killed at"


def main() -> None:
    """Fight, and tell how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=at_least(1), default=200)
    parser.add_argument("--workers", type=at_least(1), default=6)
    parser.add_argument("--seconds", type=seconds, default=60)
    parser.add_argument("--grids", type=at_least(1), default=1)
    arguments = parser.parse_args()
    if arguments.workers < arguments.grids:
        parser.error(f"--workers {arguments.workers}: expected at least one for each of {arguments.grids} grids")
    folder = Path(tempfile.mkdtemp(prefix="semihisto-chaos-"))
    found = battle(folder, **vars(arguments))
    print(
        f"{arguments.runs} runs, {found.kills} workers killed, {found.begun_again} runs begun again, {found.restarts} "
        f"grids started again, {found.seconds:.0f} s: every run has one whole record, every lock is released"
    )
    shutil.rmtree(folder)


if __name__ == "__main__":
    run(main)
