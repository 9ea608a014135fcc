"""`grid`, `status`: run all missing runs of an experiment, here or on a cluster, and show its progress."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli import common_args as shared
from benchmark.console import StopSignals
from benchmark.errors import GRID_INCOMPLETE, INTERRUPTED, OK, RUN_FAILED, UserError, listed
from benchmark.machine import check_cores
from benchmark.paths import results_folder

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from benchmark.runs.experiment import Experiment, Only
    from benchmark.runs.plan import Planned

RETRY = {"failed": ("failed", "diverged"), "stale": ("stale",)}
TASKS = 8  # of a SLURM array, unless --slots says how many
PART = ("experiment", "--only", "--shard", "--device", "--results", "--json")


def add(verbs: shared.Verbs) -> None:
    """Describe the verbs."""
    parser = shared.add_verb(verbs, "grid", "run all missing runs of an experiment", grid, *PART, "--data", "--keep")
    run_options(parser)
    parser.set_defaults(progress="")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local",
                        help=f"where workers run: here, or as an array of {TASKS} SLURM tasks, or as many as "
                             "--slots says (default: local)")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION",
                        help="one more option for sbatch, as in --sbatch=--partition=gpu --sbatch=--time=08:00:00")
    parser.add_argument("--print", dest="show", action="store_true", help="print the SLURM script, submit nothing")
    parser = shared.add_verb(verbs, "status", "show the progress of an experiment, or of all runs", status, *PART[1:])
    parser.add_argument("experiment", nargs="?", **shared.SHARED["experiment"])


def run_options(parser: argparse.ArgumentParser) -> None:
    """What `grid` and `tune` ask about the runs that are missing."""
    parser.add_argument("--dry-run", action="store_true", help="show the plan and run nothing")
    parser.add_argument("--retry", choices=tuple(RETRY), action="append", default=[],
                        help="also repeat failed (and diverged) or stale runs; old records are archived")
    parser.add_argument("--slots", type=int, metavar="N",
                        help="runs side by side (default: one a GPU, or one a CPU core)")
    parser.add_argument("--gpus", metavar="0,1", help="the GPUs to use (default: all there are)")
    parser.add_argument("--no-wait", action="store_true",
                        help="do not wait for runs that other `grid` processes have locked")


def grid(arguments: argparse.Namespace) -> int:
    """Plan, tell, run, and say what came of it."""
    stop = StopSignals()
    from benchmark.runs.experiment import read_experiment
    from benchmark.runs.plan import count

    check(arguments)
    experiment = read_experiment(arguments.experiment)
    planned, code = run_missing(experiment, arguments, stop, shared.only(arguments))
    if planned is None:
        return code
    states, cells = count(planned), [
        {"row": e.cell.row, "run_id": e.spec.run_id, "state": e.state, "command": e.cell.request.command}
        for e in planned
    ]
    answer = {"experiment": experiment.name, "states": states, "cells": cells}
    shared.show(arguments, answer, [states_in_words(states) or "nothing to do"])
    return code


def run_missing(
    experiment: Experiment, arguments: argparse.Namespace, stop: StopSignals, only: Only
) -> tuple[list[Planned] | None, int]:
    """Run what is missing of an experiment; the plan afterwards (None: SLURM has it), and the exit code."""
    from benchmark.data.load import current_fingerprint
    from benchmark.runs.launch import environments, run_all
    from benchmark.runs.plan import check_hyperparameters, count, estimate, mixed_lists, plan
    from benchmark.runs.run import RunOptions
    from benchmark.training import device as devices

    results = results_folder(arguments.results)
    slurm = arguments.launcher == "slurm"
    device = devices.choose(arguments.device, must_exist=not (arguments.dry_run or slurm))
    data_now = partial(current_fingerprint, raw=arguments.data)
    part = (results, device.type, only, arguments.shard, data_now)
    planned = plan(experiment, *part)
    if not planned:
        print(f"none of the {len(experiment.cells)} runs is in shard {arguments.shard[0]}/{arguments.shard[1]}",
              file=sys.stderr)
    wanted = {"missing"}.union(*(RETRY[kind] for kind in arguments.retry))
    chosen = [entry for entry in planned if entry.state in wanted]
    check_hyperparameters(chosen)
    _show(planned, arguments)
    slots = [{}] * (arguments.slots or TASKS) if slurm else environments(device, arguments.slots, arguments.gpus)
    if chosen:
        here = None if slurm else devices.environment(device)
        if here and here["device"] and (mixed := mixed_lists(planned, chosen, here)):
            logger.warning(f"warning: runs that are compared would come from several processors ({listed(mixed)}); "
                           "run one ratio of one draw on machines of one kind (--only ratio=..., --only draw=...)")
        told = _in_words(estimate(planned, chosen), min(len(slots), len(chosen)))
        ask = arguments.progress or _status_command(arguments)
        print(f"{len(chosen)} to run: {told}; see their progress with: {ask}", file=sys.stderr)
        if slurm and (arguments.show or not arguments.dry_run):
            return None, _submit(experiment.name, chosen, arguments, device.type)
    running = [entry for entry in planned if entry.state == "running"]  # by others, whose end or death is watched for
    failed = False
    if (chosen or running) and not slurm and not arguments.dry_run:
        name = "cuda" if device.type == "cuda" else arguments.device  # every process sees its own GPU and no other
        failed = run_all(
            [*chosen, *running], slots, RunOptions(results, arguments.data, name, keep=arguments.keep),
            asked_to_stop=lambda: stop.asked, wait_for_others=not arguments.no_wait,
        )
        planned = plan(experiment, *part)
    states = count(planned)
    if arguments.dry_run:
        return planned, OK
    if stop.asked:
        print("stopped; the same command continues", file=sys.stderr)
        return planned, INTERRUPTED
    if failed or (states.keys() & {"failed", "diverged"} and not arguments.no_wait):
        return planned, RUN_FAILED  # with --no-wait for runs of its own alone: what fails elsewhere is not its failure
    return planned, OK if not states.keys() & {"missing", "running", "stale"} else GRID_INCOMPLETE


def check(arguments: argparse.Namespace) -> None:
    """UserError for options that do not go together."""
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
            raise UserError("--print with --retry: a script cannot archive the old records; leave out --print")
    elif arguments.show or arguments.sbatch:
        raise UserError(f"{'--print' if arguments.show else '--sbatch'} goes with --launcher slurm")


def _show(planned: list[Planned], arguments: argparse.Namespace) -> None:
    """One line a row: how many of its runs are in which state, and why some are excluded. Before a dry run also what
    sparse labels come to, in the row's first run."""
    from benchmark.data.annotation import in_words
    from benchmark.runs.plan import by_row, count

    rows, known = {}, dict[Any, dict[str, Any]]()
    for row, entries in by_row(planned).items():
        reasons = sorted({entry.cell.reason for entry in entries if entry.cell.reason})
        rows[row] = states_in_words(count(entries)) + "".join(f" ({reason})" for reason in reasons)
        spec, split = entries[0].spec, entries[0].split
        if arguments.dry_run and spec.values["labels.glands"]:
            key = spec.dataset, split, spec.section("labels"), spec.values["data.size"]
            known[key] = known.get(key) or shared.annotated(entries[0], arguments.data)
            rows[row] += f"; annotated in draw {spec.fold} at {spec.ratio} %: {in_words(known[key])}"
    for line in shared.aligned(rows):
        print(line, file=sys.stderr)


def _status_command(arguments: argparse.Namespace) -> str:
    """The command that shows how far the same part of the experiment is."""
    return shlex.join(["python", "-m", "benchmark", "status", *shared.part_of(arguments)])


def _submit(name: str, chosen: list[Planned], arguments: argparse.Namespace, kind: str) -> int:
    """Hand the chosen cells to SLURM, or show how."""
    from benchmark.files import make_folder
    from benchmark.runs.slurm import script, submit

    workers, results = min(arguments.slots or TASKS, len(chosen)), results_folder(arguments.results).absolute()
    logs = results / "slurm"
    make_folder(logs)  # SLURM writes into it before the script runs
    same = shared.part_of(argparse.Namespace(**{**vars(arguments), "results": results}))
    command = [sys.executable, "-m", "benchmark", "grid", *same, "--slots", "1", "--no-wait", "--keep", arguments.keep]
    command += ["--data", os.path.abspath(arguments.data)] if arguments.data else []
    text = script(name, len(chosen), workers, command, logs=logs, cuda=kind == "cuda", options=arguments.sbatch)
    if arguments.show:
        shared.show(arguments, {"experiment": name, "script": text}, text.splitlines())
        return OK
    path = logs / f"{name}.sbatch"
    answer = submit(text, path, chosen, results)
    shared.show(arguments, {"experiment": name, "script": str(path), "submitted": answer}, [answer])
    ask = _status_command(arguments)
    logger.info(f"{workers} workers; their output is in {logs}; see their progress with '{ask}'")
    return OK


def status(arguments: argparse.Namespace) -> int:
    """Print states, running and interrupted runs, and what is left."""
    from benchmark.runs.plan import running_runs

    if not arguments.experiment and (arguments.only or arguments.shard != (1, 1)):
        raise UserError("--only and --shard name a part of an experiment; name the experiment, too")
    results = results_folder(arguments.results)
    running = running_runs(results)
    answer = _experiment(arguments, results, running) if arguments.experiment else _everything(results, running)
    shared.show(arguments, answer, _lines(answer))
    return OK


def _everything(results: Path, running: list[dict[str, Any]]) -> dict[str, Any]:
    """The states of all records, whatever experiment they belong to, and what is running."""
    from benchmark.runs.plan import interrupted_runs
    from benchmark.runs.run_files import read_record, record_files

    found = {}
    for path in record_files(results / "records"):
        try:
            found[path.stem] = read_record(path)["status"]
        except UserError:  # `grid` and `report` say what is wrong with it
            found[path.stem] = "damaged"
    running = [entry for entry in running if found.get(entry["run_id"], "failed") == "failed"]  # the others are done
    interrupted = interrupted_runs(results, {*found, *(entry["run_id"] for entry in running)})
    states = Counter(found.values()) + Counter(running=len(running), interrupted=len(interrupted))
    return {"states": dict(states), "running": running, "interrupted": interrupted}


def _experiment(arguments: argparse.Namespace, results: Path, running: list[dict[str, Any]]) -> dict[str, Any]:
    from benchmark.data.load import current_fingerprint
    from benchmark.runs.experiment import read_experiment
    from benchmark.runs.plan import by_row, count, estimate, interrupted_runs, plan
    from benchmark.training import device as devices

    device = devices.choose(arguments.device, must_exist=False)
    experiment = read_experiment(arguments.experiment)
    data_now = partial(current_fingerprint, read=False)
    planned = plan(experiment, results, device.type, shared.only(arguments), arguments.shard, data_now)
    rows = {entry.spec.run_id: entry.cell.row for entry in planned if entry.state == "running"}
    ours = [entry | {"row": rows[entry["run_id"]]} for entry in running if entry["run_id"] in rows]
    missing = [entry for entry in planned if entry.state == "missing"]
    found = interrupted_runs(results)
    seconds, timed_on = estimate(planned, missing) or (None, None)
    total = None if seconds is None else seconds + sum(entry["seconds_left"] or 0 for entry in ours)
    program, part = ("python", "-m", "benchmark"), shared.part_of(arguments)
    return {
        "experiment": experiment.name,
        "states": count(planned),
        "rows": {row: count(entries) for row, entries in by_row(planned).items()},
        "running": ours,
        "interrupted": {e.spec.run_id: found[e.spec.run_id] for e in missing if e.spec.run_id in found},
        "device": timed_on,
        "device_seconds_left": total,
        "seconds_left": total / len(ours) if ours and total is not None else None,
        "continue": shlex.join([*program, "grid", *part]),
        "trials": experiment.trials and shlex.join([*program, "tune", *part, "--dry-run"]),
    }


def _lines(answer: dict[str, Any]) -> list[str]:
    from benchmark.runs.lock import HEARTBEAT_TIMEOUT

    lines = shared.aligned({row: states_in_words(states) for row, states in answer.get("rows", {}).items()})
    lines.append(states_in_words(answer["states"]) or "no runs yet")
    for entry in answer["running"]:
        progress = "starting"
        if entry["seconds_left"] is not None:
            progress = f"step {entry['step']}/{entry['steps']}, {entry['seconds_per_step']:.3f} s a step, "
            progress += f"{spoken(entry['seconds_left'])} left"
        silent = entry["silent_seconds"]
        silence = "" if silent <= HEARTBEAT_TIMEOUT else (
            f"; no heartbeat for {spoken(silent)} by this machine's clock: if it is dead, `grid` takes it over")
        process = f"process {entry['process']} on {entry['host']}"
        lines.append(f"  running: {entry['run_id']}: {progress} ({process}){silence}")
    for run_id, step in answer["interrupted"].items():
        lines.append(f"  interrupted: {run_id}: {f'after step {step}' if step else 'has a checkpoint'}; the command "
                     "that started it continues it")
    if answer["states"].keys() & {"missing", "running"} and "continue" in answer:
        seconds = answer["device_seconds_left"]
        lines.append(_in_words(None if seconds is None else (seconds, answer["device"]), len(answer["running"])))
        lines.append(f"continue with: {answer['continue']}")
    if answer.get("trials"):
        lines.append(f"the trials of `tune` are not counted here; see them with: {answer['trials']}")
    return lines


def states_in_words(states: dict[str, int]) -> str:
    """E.g. `3 done, 1 missing`."""
    return ", ".join(f"{number} {state}" for state, number in states.items())


def _in_words(estimate: tuple[float, str] | None, workers: int) -> str:
    """One line for a person; `workers` runs side by side."""
    if estimate is None:
        return "no estimate yet, since none of these runs is done"
    seconds, device = estimate
    share = f", {spoken(seconds / workers)} with {workers} workers" if workers > 1 else ""
    return f"estimated {spoken(seconds)} in total{share} (timed on {device})"


def spoken(seconds: float) -> str:
    """A time as a person says it."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
