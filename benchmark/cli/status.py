"""`status`: what of an experiment is done, running or interrupted, and how long the rest will take."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.cli.experiment_args import add_part, parse_only, parse_shard, part_of
from benchmark.errors import OK, UserError
from benchmark.paths import results_folder


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("status", description="how far an experiment, or everything, is", allow_abbrev=False)
    add_part(parser, optional=True)
    shared.add_options(parser, "--device")
    shared.add_options(parser, "--results")
    shared.add_options(parser, "--json")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print states, running and interrupted runs, and what is left."""
    from benchmark.runs.status import running_runs

    if not arguments.experiment and (arguments.only or arguments.shard != "1/1"):
        raise UserError("--only and --shard name a part of an experiment; name the experiment, too")
    results = results_folder(arguments.results)
    running = running_runs(results)
    answer = _experiment(arguments, results, running) if arguments.experiment else _everything(results, running)
    if arguments.json:
        shared.print_json(answer)
    else:
        _print(answer)
    return OK


def _everything(results: Path, running: list[dict[str, Any]]) -> dict[str, Any]:
    """The states of all records, whatever experiment they belong to, and what is running."""
    from benchmark.runs.records import read_record, record_files
    from benchmark.runs.status import interrupted_runs

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
    from benchmark.runs.estimate import estimate
    from benchmark.runs.experiment import read_experiment
    from benchmark.runs.plan import by_row, count, plan
    from benchmark.runs.status import interrupted_runs
    from benchmark.training import device as devices

    device = devices.choose(arguments.device, must_exist=False)
    experiment = read_experiment(arguments.experiment)
    planned = plan(
        experiment, results, device.type, parse_only(arguments.only), parse_shard(arguments.shard),
        partial(current_fingerprint, read=False),
    )
    by_id = {entry.spec.run_id: entry for entry in planned}
    ours = [entry for entry in running if entry["run_id"] in by_id and by_id[entry["run_id"]].state == "running"]
    missing = [entry for entry in planned if entry.state == "missing"]
    found = interrupted_runs(results)
    timed = estimate(planned, missing)
    total = None if timed.seconds is None else timed.seconds + sum(entry["seconds_left"] or 0 for entry in ours)
    return {
        "experiment": experiment.name,
        "states": count(planned),
        "rows": {row: count(entries) for row, entries in by_row(planned).items()},
        "running": [entry | {"row": by_id[entry["run_id"]].cell.row} for entry in ours],
        "interrupted": {e.spec.run_id: found[e.spec.run_id] for e in missing if e.spec.run_id in found},
        "device": timed.device,
        "device_seconds_left": total,
        "seconds_left": total / len(ours) if ours and total is not None else None,
        "continue": shlex.join(["python", "-m", "benchmark", "grid", *part_of(arguments)]),
    }


def _print(answer: dict[str, Any]) -> None:
    from benchmark.runs.estimate import Estimate, spoken
    from benchmark.runs.lock import HEARTBEAT_TIMEOUT

    rows = answer.get("rows", {})
    width = max(map(len, rows), default=0)
    for row, states in rows.items():
        print(f"{row:<{width}}  {_states(states)}")
    print(_states(answer["states"]) or "no runs yet")
    for entry in answer["running"]:
        progress = "starting"
        if entry["seconds_left"] is not None:
            progress = f"step {entry['step']}/{entry['steps']}, {entry['seconds_per_step']:.3f} s a step, "
            progress += f"{spoken(entry['seconds_left'])} left"
        silent = entry["silent_seconds"]
        silence = f"; no heartbeat for {spoken(silent)}: `grid` takes it over" if silent > HEARTBEAT_TIMEOUT else ""
        print(f"  running: {entry['run_id']}: {progress} (process {entry['process']} on {entry['host']}){silence}")
    for run_id, step in answer["interrupted"].items():
        print(f"  interrupted: {run_id}: {f'after step {step}' if step else 'has a checkpoint'}; the command that "
              "started it continues it")
    if answer["states"].keys() & {"missing", "running"} and "continue" in answer:
        print(Estimate(answer["device_seconds_left"], answer["device"]).in_words(len(answer["running"])))
        print(f"continue with: {answer['continue']}")


def _states(states: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in states.items())
