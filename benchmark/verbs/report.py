"""`report`: tables and figures of whatever records there are."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmark.errors import OK
from benchmark.paths import results_folder
from benchmark.verbs import arguments as shared


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("report", help="tables and figures from the records there are", allow_abbrev=False)
    parser.add_argument("--protocol", choices=("strict", "validation", "paper"), default="strict",
                        help="what a score is: see docs/protocols.md (default: strict)")
    shared.add_folders(parser, data=False)
    parser.add_argument("--no-figures", action="store_true", help="write tables only")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files, print the tables, and say where the files are."""
    from benchmark.report.build import build

    formats = ("md",) if arguments.no_figures else ("md", "png")
    report = build(results_folder(arguments.results), protocol=arguments.protocol, formats=formats)
    print(report.text)
    for line in [*report.remarks, *(f"wrote {path}" for path in report.paths)]:
        print(line, file=sys.stderr)
    return OK
