"""`profile`: parameters, operations, memory and time of a method."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmark.errors import OK, UserError
from benchmark.verbs import arguments as shared


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("profile", help="parameters, operations, memory and time of a method", allow_abbrev=False)
    shared.add_cell(parser, dataset_default="synthetic")
    shared.add_device(parser)
    shared.add_folders(parser, results=False)
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long to time (default: 60)")
    parser.add_argument("--count-only", action="store_true", help="count parameters, time nothing")
    parser.add_argument("--trace", metavar="FILE", help="also write a Chrome trace of three steps")
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the costs."""
    from benchmark.data.prepared import load
    from benchmark.engine import device as devices
    from benchmark.engine.profile import count, profile
    from benchmark.engine.session import assemble
    from benchmark.errors import Decline
    from benchmark.runs.request import specify

    if arguments.seconds <= 0:
        raise UserError(f"--seconds must be positive, it is {arguments.seconds}")
    device = devices.choose(arguments.device)
    spec, split = specify(shared.request(arguments), device.type)
    prepared = load(spec.dataset, spec.values["data.size"], raw=arguments.data)
    try:
        session = assemble(spec, prepared, split, device)
    except Decline as reason:
        raise UserError(f"{spec.method} declines this setting: {reason}") from None
    costs = count(session) if arguments.count_only else profile(session, arguments.seconds)
    if arguments.trace:
        from benchmark.engine.anatomy import trace

        trace(session, Path(arguments.trace))
    costs = {"method": spec.method, "device": devices.environment(device)["device"]} | costs
    if arguments.json:
        shared.print_json(costs)
        return OK
    for name, value in costs.items():
        if isinstance(value, dict):
            for part, seconds in value.items():
                print(f"  {part:<24}{seconds:.6f}")
        else:
            print(f"{name:<26}{value:,}" if isinstance(value, int) else f"{name:<26}{value}")
    return OK
