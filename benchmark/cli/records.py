"""`records`: copy the records of other results folders into one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import CHECK_FAILED, OK, UserError
from benchmark.paths import results_folder


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("records", description="copy the records of other people or machines",
                              allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=type(parser))
    about = "copy records that are missing, and their counts, from other results folders; refuse where two differ"
    merging = actions.add_parser("merge", help=about, description=about, allow_abbrev=False)
    merging.add_argument("folders", nargs="+", metavar="DIR", help="a results folder, or the records folder in one")
    shared.add_options(merging, "--results")
    merging.add_argument("--dry-run", action="store_true", help="show what would be copied, and copy nothing")
    shared.add_options(merging, "--json")
    merging.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Copy, and show what each folder had; exit code 4 where records differ, and nothing is copied then."""
    from benchmark.runs.maintenance import merge

    results = results_folder(arguments.results)
    merges = merge([Path(folder) for folder in arguments.folders], results, dry_run=arguments.dry_run)
    conflicts = [line for found in merges for line in found.conflicts]
    for line in conflicts:
        print(line, file=sys.stderr)
    if conflicts:
        raise UserError(f"{len(conflicts)} records differ, see above; nothing was copied", CHECK_FAILED)
    if arguments.json:
        found = [vars(each) | {"folder": str(each.folder)} for each in merges]
        shared.print_json({"results": str(results), "dry_run": arguments.dry_run, "sources": found})
        return OK
    for each in merges:
        text = f"{len(each.copied)} copied, {len(each.skipped)} skipped, {len(each.replaced)} replaced"
        print(f"{each.folder}: {text}{' (dry run)' * arguments.dry_run}")
    return OK
