"""`grid`: what of an experiment is missing, and running it."""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from typing import Any

from benchmark.errors import GRID_INCOMPLETE, INTERRUPTED, OK, RUN_FAILED, UserError
from benchmark.paths import results_folder
from benchmark.verbs import arguments as shared
from benchmark.verbs.run import StopSignals

RETRY = {"failed": ("failed", "diverged"), "stale": ("stale",)}


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("grid", help="run what is missing of an experiment", allow_abbrev=False)
    parser.add_argument("experiment", help="a name from `list experiments`, or path/to/file.yaml")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=VALUE",
                        help="cells with this row, method, dataset, ratio or draw")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and run nothing")
    parser.add_argument("--retry", choices=tuple(RETRY), action="append", default=[],
                        help="run failed (and diverged) or stale cells anew; old records are set aside")
    parser.add_argument("--slots", type=int, metavar="N",
                        help="runs side by side (default: one a GPU, or one a CPU core)")
    parser.add_argument("--gpus", metavar="0,1", help="the GPUs to use (default: all there are)")
    shared.add_device(parser)
    shared.add_folders(parser)
    parser.add_argument("--keep", choices=("nothing", "weights", "all"), default="weights",
                        help="what to leave in the runs' folders (default: weights)")
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan, tell, run, and say what came of it."""
    stop = StopSignals()
    from benchmark.engine import device as devices
    from benchmark.runs.experiment import read_experiment
    from benchmark.runs.grid import check_hyperparameters, count, plan
    from benchmark.runs.workers import Job, Orders, Slot, run_all

    if arguments.slots is not None and arguments.slots < 1:
        raise UserError(f"--slots must be at least 1, it is {arguments.slots}")
    experiment, results = read_experiment(arguments.experiment), results_folder(arguments.results)
    kind = devices.choose(arguments.device).type
    only = _only(arguments.only)
    planned = plan(experiment, results, kind, only)
    _show(planned)
    wanted = {"missing"}.union(*(RETRY[kind] for kind in arguments.retry))
    chosen = [entry for entry in planned if entry.state in wanted]
    check_hyperparameters(chosen)
    refused = []
    if chosen and not arguments.dry_run:
        _prepare({(e.spec.dataset, e.spec.values["data.size"]) for e in chosen}, arguments.data)
        jobs = [Job(entry.cell.request, again=entry.state != "missing") for entry in chosen]
        rows = {id(job): entry.cell.row for job, entry in zip(jobs, chosen, strict=True)}

        def tell(job: Any, answer: tuple[str, str]) -> None:
            row = rows.pop(id(job))
            if answer[0] == "refused":
                refused.append(job)
            place = f"{job.request.dataset} {job.request.ratio} % draw {job.request.fold}"
            line = f"{row}, {place}: {': '.join(filter(None, answer))} ({len(rows)} left)"
            print(line, file=sys.stderr, flush=True)

        device = "cuda" if kind == "cuda" else arguments.device  # each worker sees its own GPU and no other
        orders = Orders(results, arguments.data, device, arguments.keep)
        slots = [Slot(environment) for environment in _environments(arguments, kind, len(jobs))]
        run_all(jobs, slots, orders, tell, lambda: stop.asked)
        planned = plan(experiment, results, kind, only)
    states = count(planned)
    if arguments.json:
        cells = [
            {"row": e.cell.row, "run_id": e.spec.run_id, "state": e.state, "command": e.cell.request.command}
            for e in planned
        ]
        shared.print_json({"experiment": experiment.name, "states": states, "cells": cells})
    else:
        print(", ".join(f"{number} {state}" for state, number in states.items()))
    if arguments.dry_run:
        return OK
    if stop.asked:
        return INTERRUPTED
    if refused or states.keys() & {"failed", "diverged"}:
        return RUN_FAILED
    return OK if not states.keys() & {"missing", "running", "stale"} else GRID_INCOMPLETE


def _only(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--only {pair}: expected KEY=VALUE, as in --only method=NAME")
    chosen = dict(pair.split("=", 1) for pair in pairs)
    if len(chosen) < len(pairs):
        raise UserError(f"--only {pairs[-1]}: a key may be given once")
    return chosen


def _show(planned: list[Any]) -> None:
    """One line a row: how many of its cells are in which state, and why some are left out."""
    from benchmark.runs.grid import count

    rows = defaultdict(list)
    for entry in planned:
        rows[entry.cell.row].append(entry)
    width = max(map(len, rows))
    for row, entries in rows.items():
        text = ", ".join(f"{number} {state}" for state, number in count(entries).items())
        reasons = sorted({entry.cell.reason for entry in entries if entry.cell.reason})
        print(f"{row:<{width}}  {text}{''.join(f' ({reason})' for reason in reasons)}", file=sys.stderr)


def _prepare(wanted: set[tuple[str, int]], raw: str | None) -> None:
    """Every data set at every size, once, before many workers ask for it."""
    from benchmark.data.prepared import load

    for dataset, size in sorted(wanted):
        load(dataset, size, raw=raw, say=lambda line: print(line, file=sys.stderr))


def _environments(arguments: argparse.Namespace, kind: str, jobs: int) -> list[dict[str, str]]:
    """What the workers have in their environment, one entry a slot."""
    if kind == "cpu":
        if arguments.gpus:
            raise UserError("--gpus: this grid runs on the CPU; leave it out, or use --device cuda")
        slots = arguments.slots or len(os.sched_getaffinity(0))
        return [{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}] * min(slots, jobs)
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    one = arguments.device.partition(":")[2]
    gpus = arguments.gpus.split(",") if arguments.gpus else [there[int(one)]] if one else there
    unknown = [gpu for gpu in gpus if gpu not in there]
    if unknown:
        raise UserError(f"--gpus {arguments.gpus}: there is no {', '.join(unknown)}; there is {', '.join(there)}")
    slots = arguments.slots or len(gpus)
    return [{"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} for slot in range(min(slots, jobs))]
