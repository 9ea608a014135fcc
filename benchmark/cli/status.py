"""`status`: what of an experiment is done, who is at the rest, and how long it will take."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
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
    """Print states, running runs and what is left."""
    from benchmark.runs.running import running

    if not arguments.experiment and (arguments.only or arguments.shard != "1/1"):
        raise UserError("--only and --shard name a part of an experiment; name the experiment, too")
    results = results_folder(arguments.results)
    alive = running(results)
    answer = _experiment(arguments, results, alive) if arguments.experiment else _everything(results, alive)
    if arguments.json:
        shared.print_json(answer)
    else:
        _print(answer)
    return OK


def _everything(results: Any, alive: Sequence[Any]) -> dict[str, Any]:
    """The states of all records, whatever experiment they belong to, and what is running."""
    from benchmark.runs.records import read_record, record_files

    found = {}
    for path in record_files(results / "records"):
        try:
            found[path.stem] = read_record(path)["status"]
        except UserError:  # `grid` and `report` say what is wrong with it
            found[path.stem] = "damaged"
    states = Counter(found.values())
    begun = {folder.parent.name for folder in (results / "runs").glob("*/checkpoint.pt")}
    alive = [entry for entry in alive if found.get(entry.run_id, "failed") == "failed"]  # all else stands
    states["running"] = len(alive)
    states["interrupted"] = len(begun - found.keys() - {entry.run_id for entry in alive})
    return {"states": dict(+states), "running": [entry.to_json() for entry in alive]}


def _experiment(arguments: argparse.Namespace, results: Any, alive: Sequence[Any]) -> dict[str, Any]:
    from benchmark.runs.estimate import Speeds
    from benchmark.runs.experiment import read_experiment
    from benchmark.runs.grid import count, plan
    from benchmark.training import device as devices

    device = devices.choose(arguments.device, must_exist=False)
    experiment = read_experiment(arguments.experiment)
    only, shard = parse_only(arguments.only), parse_shard(arguments.shard)
    planned = plan(experiment, results, device.type, only, shard)
    by_name = {entry.spec.run_id: entry for entry in planned}
    ours = [entry for entry in alive if entry.run_id in by_name and by_name[entry.run_id].state == "running"]
    missing = [entry for entry in planned if entry.state == "missing"]
    estimate = Speeds(results, device.type, devices.name(device)).estimate((e.spec, e.split) for e in missing)
    begun = [entry.seconds_left for entry in ours if not entry.seems_dead]
    known = not estimate.unmeasured and None not in begun
    device_seconds = estimate.seconds + sum(left or 0 for left in begun) if known else None
    rows: dict[str, list[Any]] = defaultdict(list)
    for entry in planned:
        rows[entry.cell.row].append(entry)
    return {
        "experiment": experiment.name,
        "states": count(planned),
        "rows": {row: count(entries) for row, entries in rows.items()},
        "running": [entry.to_json() | {"row": by_name[entry.run_id].cell.row} for entry in ours],
        "device": estimate.device,
        "device_seconds_left": device_seconds,
        "seconds_left": device_seconds / len(begun) if begun and device_seconds is not None else None,
        "unmeasured": list(estimate.unmeasured),
        "continue": shlex.join(["python", "-m", "benchmark", "grid", *part_of(arguments)]),
    }


def _print(answer: dict[str, Any]) -> None:
    from benchmark.runs.estimate import spoken

    rows = answer.get("rows", {})
    width = max(map(len, rows), default=0)
    for row, states in rows.items():
        print(f"{row:<{width}}  {_states(states)}")
    print(_states(answer["states"]) or "no runs yet")
    for entry in answer["running"]:
        far = "starting"
        if entry["step"] is not None:
            far = f"step {entry['step']}/{entry['steps']}, {entry['seconds_per_step']:.3f} s a step, "
            far += f"{spoken(entry['seconds_left'])} left"
        silence = ""
        if entry["seems_dead"]:
            silence = f"; no sign of life for {spoken(entry['silent_seconds'])}: a grid that runs takes it over"
        print(f"  {entry['run_id']}: {far} (process {entry['process']} on {entry['host']}){silence}")
    if answer["states"].keys() & {"missing", "running"} and "continue" in answer:
        left = f"no estimate of {', '.join(answer['unmeasured'])}: nothing is measured on this device"
        if answer["device_seconds_left"] is not None:
            left = f"about {spoken(answer['device_seconds_left'])} of {answer['device'] or 'this device'} left"
            if answer["seconds_left"] is not None:
                left += f", {spoken(answer['seconds_left'])} as it is running"
        print(left)
        print(f"continue with: {answer['continue']}")


def _states(states: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in states.items())
