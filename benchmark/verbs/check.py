"""`check`: does a method keep the contract?"""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.errors import CHECK_FAILED, OK
from benchmark.verbs import arguments as shared


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("check", help="run the conformance suite on a method, or on all", allow_abbrev=False)
    parser.add_argument("method", help="a name from `list methods`, path/to/file.py:Class, or all")
    shared.add_device(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one line a check; exit code 4 when one failed."""
    from benchmark.engine import device as devices
    from benchmark.registry import METHODS

    device = devices.choose(arguments.device)
    names = METHODS.names() if arguments.method == "all" else [arguments.method]
    report: dict[str, dict[str, str | None]] = {}
    for name in names:
        report[name] = {}
        for check, complaint in checks(name, device):
            report[name][check] = complaint
            if not arguments.json:
                print(f"{name}: {check.replace('_', ' ')}: {complaint or 'ok'}", flush=True)
    if arguments.json:
        shared.print_json(report)
    failed = any(complaint for results in report.values() for complaint in results.values())
    return CHECK_FAILED if failed else OK


def checks(name: str, device: Any, only: tuple[str, ...] = ()) -> Any:
    """The conformance suite of one method on the embedded data."""
    from benchmark.data.prepared import load
    from benchmark.engine.conformance import STEPS, Bench, conformance
    from benchmark.runs.request import Request, specify

    small = {"train.steps": STEPS, "train.batch_labelled": 4, "train.batch_unlabelled": 4, "evaluate.times": 1}
    spec, split = specify(Request(name, "synthetic", preset="demo", overrides=small), device.type)
    return conformance(Bench(spec, load("synthetic", spec.values["data.size"]), split, device), only)
