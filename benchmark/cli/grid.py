"""`grid`: what of an experiment is missing, and running it, here or on a cluster."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli import common_args as shared
from benchmark.cli.experiment_args import add_part, parse_only, parse_shard, part_of
from benchmark.config.schema import check_cores
from benchmark.errors import GRID_INCOMPLETE, INTERRUPTED, OK, RUN_FAILED, UserError
from benchmark.paths import results_folder
from benchmark.runs.signals import StopSignals

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch

    from benchmark.runs.plan import Planned

RETRY = {"failed": ("failed", "diverged"), "stale": ("stale",)}
TASKS = 8  # of a SLURM array, unless --slots says how many


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("grid", description="run what is missing of an experiment", allow_abbrev=False)
    add_part(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the plan and run nothing")
    parser.add_argument("--retry", choices=tuple(RETRY), action="append", default=[],
                        help="run failed (and diverged) or stale cells anew; old records are set aside")
    parser.add_argument("--slots", type=int, metavar="N",
                        help=f"runs side by side (default: one a GPU, or one a CPU core; {TASKS} tasks with slurm)")
    parser.add_argument("--gpus", metavar="0,1", help="the GPUs to use (default: all there are)")
    parser.add_argument("--no-wait", action="store_true",
                        help="leave runs that other grids are at to them, instead of waiting for their end")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local",
                        help="where workers run: here, or as an array of SLURM tasks (default: local)")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION",
                        help="one more option for sbatch, as in --sbatch=--partition=gpu --sbatch=--time=08:00:00")
    parser.add_argument("--print", dest="show", action="store_true", help="print the SLURM script, submit nothing")
    shared.add_options(parser, "--device")
    shared.add_options(parser, "--results", "--data")
    parser.add_argument("--keep", choices=("nothing", "weights", "all"), default="weights",
                        help="what to leave in the runs' folders (default: weights)")
    shared.add_options(parser, "--json")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Plan, tell, run, and say what came of it."""
    stop = StopSignals()
    from benchmark.data.load import current_fingerprint
    from benchmark.runs.experiment import read_experiment
    from benchmark.runs.plan import check_hyperparameters, plan
    from benchmark.training import device as devices

    _check(arguments)
    experiment, results = read_experiment(arguments.experiment), results_folder(arguments.results)
    elsewhere = arguments.dry_run or arguments.launcher == "slurm"
    device = devices.choose(arguments.device, must_exist=not elsewhere)
    data_now = partial(current_fingerprint, raw=arguments.data)
    part = (results, device.type, parse_only(arguments.only), parse_shard(arguments.shard), data_now)
    planned = plan(experiment, *part)
    if not planned:
        print(f"--shard {arguments.shard}: no run is in this part of {len(experiment.cells)}", file=sys.stderr)
    wanted = {"missing"}.union(*(RETRY[kind] for kind in arguments.retry))
    chosen = [entry for entry in planned if entry.state in wanted]
    check_hyperparameters(chosen)
    _show(planned)
    if chosen:
        _show_estimate(planned, chosen, arguments, device)
    trouble, slurm = False, arguments.launcher == "slurm"
    if chosen and slurm and (arguments.show or not arguments.dry_run):
        return _submit(experiment.name, chosen, arguments, results, device.type)
    running = [entry for entry in planned if entry.state == "running"]  # by others, whose end or death is watched for
    if (chosen or running) and not slurm and not arguments.dry_run:
        trouble = _run_here([*chosen, *running], arguments, results, device.type, stop)
        planned = plan(experiment, *part)
    states = _answer(experiment.name, planned, arguments.json)
    if arguments.dry_run:
        return OK
    if stop.asked:
        return INTERRUPTED
    if trouble or (states.keys() & {"failed", "diverged"} and not arguments.no_wait):
        return RUN_FAILED  # with --no-wait for runs of its own alone: what fails elsewhere is not its failure
    return OK if not states.keys() & {"missing", "running", "stale"} else GRID_INCOMPLETE


def _check(arguments: argparse.Namespace) -> None:
    if arguments.slots is not None and arguments.slots < 1:
        raise UserError(f"--slots must be at least 1, it is {arguments.slots}")
    if arguments.slots and arguments.launcher == "local":
        check_cores("--slots ", arguments.slots, "processes")
    if arguments.launcher == "slurm":
        if arguments.device not in ("cpu", "cuda"):
            raise UserError("--launcher slurm: say --device cuda or --device cpu; the nodes may differ from this one, "
                            "and SLURM chooses the GPU")
        if arguments.gpus:
            raise UserError("--gpus: SLURM hands out the GPUs; leave it out, and see --sbatch")
        if arguments.show and arguments.retry:
            raise UserError("--print with --retry: a script sets no old records aside; leave out --print to submit it")
    elif arguments.show or arguments.sbatch:
        raise UserError(f"{'--print' if arguments.show else '--sbatch'} goes with --launcher slurm")


def _show(planned: Sequence[Planned]) -> None:
    """One line a row: how many of its runs are in which state, and why some are excluded."""
    from benchmark.runs.plan import by_row, count

    rows = by_row(planned)
    width = max(map(len, rows), default=0)
    for row, entries in rows.items():
        text = ", ".join(f"{number} {state}" for state, number in count(entries).items())
        reasons = sorted({entry.cell.reason for entry in entries if entry.cell.reason})
        print(f"{row:<{width}}  {text}{''.join(f' ({reason})' for reason in reasons)}", file=sys.stderr)


def _show_estimate(
    planned: Sequence[Planned], chosen: Sequence[Planned], arguments: argparse.Namespace, device: torch.device
) -> None:
    """How long it will take, and a warning where one table would come from several kinds of processor."""
    from benchmark.runs.estimate import estimate
    from benchmark.runs.launch import slot_count
    from benchmark.runs.processors import mixed_lists
    from benchmark.training import device as devices

    slots = arguments.slots or TASKS
    if arguments.launcher == "local":
        slots = slot_count(arguments.device, device.type, arguments.slots, arguments.gpus)
        if devices.name(device) and (mixed := mixed_lists(planned, chosen, devices.environment(device))):
            more = f", and {len(mixed) - 1} more" if len(mixed) > 1 else ""
            logger.warning(f"warning: runs that are compared would come from several processors ({mixed[0]}{more}); "
                           "run one ratio of one draw on machines of one kind (--only ratio=..., --only draw=...)")
    text = estimate(planned, chosen).in_words(min(slots, len(chosen)))
    print(f"{len(chosen)} to run: {text}", file=sys.stderr)


def _run_here(
    chosen: Sequence[Planned], arguments: argparse.Namespace, results: Path, kind: str, stop: StopSignals
) -> bool:
    """Run the chosen cells on this machine; whether one of them failed."""
    from benchmark.files import check_writable
    from benchmark.runs.launch import FAILURES, Job, Result, environments, run_jobs
    from benchmark.runs.run import RunOptions

    slots = environments(arguments.device, kind, arguments.slots, arguments.gpus)
    for folder in ("runs", "records"):
        check_writable(results / folder)
    _prepare({(entry.dataset, entry.spec.values["data.size"]) for entry in chosen}, arguments.data)
    rows = {entry.spec.run_id: entry.cell.row for entry in chosen}
    jobs = [Job(entry.cell.request, entry.spec.run_id, entry.digest) for entry in chosen]
    failed = {}

    def on_result(job: Job, result: Result, left: int) -> None:
        failed[job.run_id] = result.status in FAILURES
        place = f"{job.request.dataset} {job.request.ratio} % draw {job.request.fold}"
        logger.info(f"{rows[job.run_id]}, {place}: {': '.join(filter(None, result))} ({left} left)")

    device = "cuda" if kind == "cuda" else arguments.device  # every process sees its own GPU and no other
    options = RunOptions(results, arguments.data, device, keep=arguments.keep)
    others = run_jobs(jobs, slots[: len(jobs)], options, on_result=on_result, asked_to_stop=lambda: stop.asked,
                      wait_for_others=not arguments.no_wait)
    if others:
        logger.info(f"{len(others)} runs are left to the processes that work on them")
    return any(failed.values())


def _prepare(wanted: set[tuple[Any, int]], raw: str | None) -> None:
    """Every data set at every size, once, before many processes ask for it."""
    from benchmark.data.load import load_prepared

    for dataset, size in sorted(wanted, key=lambda pair: (pair[0].name, pair[1])):
        load_prepared(dataset, size, raw=raw)


def _submit(
    name: str, chosen: Sequence[Planned], arguments: argparse.Namespace, results: Path, kind: str
) -> int:
    """Hand the chosen cells to SLURM, or show how."""
    from benchmark.files import make_folder
    from benchmark.runs.folder import RunFolder
    from benchmark.runs.records import digest
    from benchmark.runs.run import archive_run
    from benchmark.runs.slurm import check, script, submit

    if not arguments.show:
        check()
    workers = min(arguments.slots or TASKS, len(chosen))
    same = part_of(argparse.Namespace(**{**vars(arguments), "results": str(results.absolute())}))
    command = [sys.executable, "-m", "benchmark", "grid", *same, "--slots", "1", "--no-wait", "--keep", arguments.keep]
    command += ["--data", os.path.abspath(arguments.data)] if arguments.data else []
    logs = results.absolute() / "slurm"
    text = script(name, len(chosen), workers, command, logs=logs, cuda=kind == "cuda", options=arguments.sbatch)
    make_folder(logs)  # SLURM writes into it before the script runs
    if arguments.show:
        shared.print_json({"experiment": name, "script": text}) if arguments.json else print(text, end="")
        return OK
    archived = 0
    for entry in chosen:
        if entry.digest:  # not left to the tasks: each would try again what another has just tried
            folder, path = RunFolder(results, entry.spec), results / "records" / f"{entry.spec.run_id}.json"
            with folder.locked(wait=True):
                if digest(path) == entry.digest:
                    archive_run(folder, path)
                    archived += 1
    try:
        answer = submit(text, logs / f"{name}.sbatch")
    except UserError as error:
        aside = f"; {archived} old records are archived by now, the same command goes on" if archived else ""
        raise UserError(f"{error}{aside}", error.code) from None
    if arguments.json:
        shared.print_json({"experiment": name, "script": str(logs / f"{name}.sbatch"), "submitted": answer})
    else:
        print(answer)
    ask = shlex.join(["python", "-m", "benchmark", "status", *part_of(arguments)])
    logger.info(f"{workers} workers; their output is in {logs}; how far they are: {ask}")
    return OK


def _answer(name: str, planned: Sequence[Planned], as_json: bool) -> dict[str, int]:
    """Print how many cells are in which state, and return that."""
    from benchmark.runs.plan import count

    states = count(planned)
    if as_json:
        cells = [
            {"row": e.cell.row, "run_id": e.spec.run_id, "state": e.state, "command": e.cell.request.command}
            for e in planned
        ]
        shared.print_json({"experiment": name, "states": states, "cells": cells})
    else:
        print(", ".join(f"{number} {state}" for state, number in states.items()) or "nothing to do")
    return states
