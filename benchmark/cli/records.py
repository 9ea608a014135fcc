"""`records`: bring the records of several results folders together."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, OK, UserError
from benchmark.paths import results_folder


def add(verbs: Any) -> None:
    """Describe the verb and what it does with records."""
    parser = verbs.add_parser("records", description="bring the records of several people or machines together",
                              allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=type(parser))
    about = "copy records and their counts from other results folders; two that contradict each other stop it"
    merged = actions.add_parser("merge", help=about, description=about, allow_abbrev=False)
    merged.add_argument("folders", nargs="+", metavar="DIR", help="a results folder, or the records folder in one")
    shared.add_options(merged, "--results")
    merged.add_argument("--dry-run", action="store_true", help="say what would be copied, and copy nothing")
    shared.add_options(merged, "--json")
    merged.set_defaults(function=merge)


def merge(arguments: argparse.Namespace) -> int:
    """Plan, copy unless there are conflicts (exit code 4), and say what each folder brought."""
    from benchmark.runs.merge import carry_out, plan

    folders, results = [Path(folder) for folder in arguments.folders], results_folder(arguments.results)
    planned = plan(folders, results)
    for line in planned.conflicts:
        print(line, file=sys.stderr)
    if number := len(planned.conflicts):
        raise UserError(f"{number} conflict{'s' * (number > 1)}, see above; nothing was merged", CHECK_FAILED)
    if not arguments.dry_run:
        carry_out(planned)
    if arguments.json:
        shared.print_json({
            "results": str(planned.target.parent), "dry_run": arguments.dry_run,
            "sources": [vars(source) | {"folder": str(source.folder)} for source in planned.sources],
        })
        return OK
    bring, replace = ("would bring", "would replace") if arguments.dry_run else ("brought", "replaced")
    for source in planned.sources:
        print(f"{source.folder}: {bring} {len(source.brought)}, already there {len(source.already_there)}, "
              f"{replace} a failed one {len(source.replaced)}")
    return OK
