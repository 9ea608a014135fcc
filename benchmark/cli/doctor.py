"""`doctor`: versions, device, memory, disk, threads, data, and a short self-test of repetition and resume."""

from __future__ import annotations

import argparse
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, OK


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("doctor", help="what is here, and whether it works", allow_abbrev=False)
    shared.add_device(parser)
    shared.add_folders(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found, and a verdict; exit code 4 when something is broken."""
    from benchmark.runs.doctor import diagnose
    from benchmark.training import device as devices

    found = diagnose(devices.choose(arguments.device), arguments.results, arguments.data)
    if arguments.json:
        shared.print_json({**vars(found), "verdict": found.verdict})
    else:
        width = max(map(len, found.facts))
        for name, value in found.facts.items():
            print(f"{name:<{width}}  {value}")
        for line in found.warnings:
            print(f"warning: {line}")
        for line in found.broken:
            print(f"broken: {line}")
        print(found.verdict)
    return CHECK_FAILED if found.broken else OK
