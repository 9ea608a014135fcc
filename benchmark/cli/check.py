"""`check`: does a method keep the contract?"""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, OK


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("check", help="run the conformance suite on a method, or on all", allow_abbrev=False)
    parser.add_argument("method", help="a name from `list methods`, path/to/file.py:Class, or all")
    shared.add_device(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print one line a check and one for all; exit code 4 when one failed."""
    from benchmark.conformance.checks import check_method
    from benchmark.registry import METHODS
    from benchmark.training import device as devices

    device = devices.choose(arguments.device)
    names = METHODS.names() if arguments.method == "all" else [METHODS.full_name(arguments.method)]
    report: dict[str, dict[str, str | None]] = {}
    for name in names:
        report[name] = {}
        for check, complaint in check_method(name, device):
            report[name][check] = complaint
            if not arguments.json:
                print(f"{name}: {check.replace('_', ' ')}: {complaint or 'ok'}", flush=True)
    answers = [complaint for results in report.values() for complaint in results.values()]
    failed = sum(complaint is not None for complaint in answers)
    if arguments.json:
        shared.print_json(report)
    else:
        print(f"{failed} of {len(answers)} checks failed" if failed else f"{len(answers)} checks passed")
    return CHECK_FAILED if failed else OK
