"""`profile`: parameters, operations, memory and time of a method, or of all."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, UserError

ALL = "all"
COLUMNS = {
    "parameters": "parameters_trained", "GFLOP": "flops_per_step", "MiB": "peak_memory_bytes",
    "step s": "seconds_per_step", "bare s": "bare_seconds_per_step", "overhead": "overhead_ratio",
    "by parts": "overhead_by_parts", "images/s": "images_per_second", "of ceiling": "model_flops_utilisation",
    "evaluation": "evaluation_fraction", "checkpoints": "checkpoint_fraction",
}
UNITS = {"parameters": (1, ",.0f"), "GFLOP": (1e9, ".1f"), "MiB": (2**20, ".0f"), "images/s": (1, ".1f")}


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("profile", help="parameters, operations, memory and time of a method, or of all",
                              allow_abbrev=False)
    shared.add_cell(parser, dataset_default="synthetic")
    shared.add_device(parser)
    shared.add_folders(parser, results=False)
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long to time each (default: 60)")
    parser.add_argument("--count-only", action="store_true", help="count parameters, time nothing")
    parser.add_argument("--trace", metavar="FILE", help="also write a Chrome trace of three steps")
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the costs of one method, or a table with `--method all`."""
    from benchmark.errors import NotApplicable
    from benchmark.registry import METHODS
    from benchmark.training import device as devices

    if arguments.seconds <= 0:
        raise UserError(f"--seconds must be positive, it is {arguments.seconds}")
    device = devices.choose(arguments.device)
    if arguments.method != ALL:
        try:
            costs = measure(arguments, device)
        except NotApplicable as reason:
            raise UserError(f"{arguments.method} declines this setting: {reason}") from None
        shared.print_json(costs) if arguments.json else _list(costs)
        return OK
    if arguments.trace:
        raise UserError(f"--trace {arguments.trace}: holds one method's steps; name it with --method")
    found = []
    for name in METHODS.names():
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            found.append(measure(argparse.Namespace(**{**vars(arguments), "method": name}), device))
        except (NotApplicable, UserError) as reason:  # a setting of one method's own is a mistake in the others
            found.append({"method": name, "declined": str(reason)})
    shared.print_json(found) if arguments.json else _table(found)
    return OK


def measure(arguments: argparse.Namespace, device: Any) -> dict[str, Any]:
    """The costs of one method. Raises NotApplicable where it declines the setting."""
    from benchmark.data.load import load_prepared
    from benchmark.profiling.profile import count, profile
    from benchmark.runs.request import specify
    from benchmark.training import device as devices
    from benchmark.training.setup import build_training

    spec, split, dataset, _ = specify(shared.request(arguments), device.type)
    prepared = load_prepared(dataset, spec.values["data.size"], raw=arguments.data)
    devices.clear(device)
    training = build_training(spec, prepared, split, device)
    costs = count(training) if arguments.count_only else profile(training, arguments.seconds)
    if arguments.trace:
        from benchmark.profiling.step_timing import trace

        trace(training, Path(arguments.trace))
    return {"method": spec.method, "device": devices.environment(device)["device"]} | costs


def _list(costs: dict[str, Any]) -> None:
    """One line a cost, and below the split of a step."""
    for name, value in costs.items():
        if isinstance(value, dict):
            for part, seconds in value.items():
                print(f"  {part:<24}{seconds:.6f}")
        else:
            print(f"{name:<26}{value:,}" if isinstance(value, int) else f"{name:<26}{value}")


def _table(found: list[dict[str, Any]]) -> None:
    """A Markdown table, a line a method: COLUMNS, then the parts of a step as shares of their sum."""
    from benchmark.profiling.step_timing import PARTS

    heads = [name for name, key in COLUMNS.items() if any(costs.get(key) is not None for costs in found)]
    parts = PARTS if any("seconds_by_part" in costs for costs in found) else ()
    print("| method | " + " | ".join([*heads, *parts]) + " |")
    print("|:--|" + "--:|" * (len(heads) + len(parts)))
    for costs in found:
        if "declined" in costs:
            print(f"| {costs['method']} | declined: {costs['declined']} |")
            continue
        seconds = costs.get("seconds_by_part", {})
        total = sum(seconds.get(part, 0.0) for part in parts) or 1.0
        cells = [_cell(head, costs.get(COLUMNS[head])) for head in heads]
        cells += [f"{seconds[part] / total:.4f}" if part in seconds else "-" for part in parts]
        print(f"| {costs['method']} | " + " | ".join(cells) + " |")


def _cell(head: str, value: float | None) -> str:
    unit, form = UNITS.get(head, (1, ".4g"))
    return "-" if value is None else format(value / unit, form)
