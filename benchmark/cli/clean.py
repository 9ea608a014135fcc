"""`clean`: remove files that are not needed any more."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK
from benchmark.paths import results_folder

ABOUT = """Lists archived records and checkpoints (*.old1, ...), checkpoints of finished runs, and temporary files that
are older than a day; with --yes they are removed. Records and running runs are never removed."""


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("clean", description=ABOUT, allow_abbrev=False)
    shared.add_options(parser, "--results")
    parser.add_argument("--yes", action="store_true", help="remove the files; without this they are only listed")
    shared.add_options(parser, "--json")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """List the files, and remove them where asked to."""
    from benchmark.runs.maintenance import removable, remove, size

    results = results_folder(arguments.results)
    sizes = {path: size(path) for path in removable(results)}
    if arguments.yes:
        for path in sizes:
            remove(path)
    if arguments.json:
        found = {str(path): bytes_ for path, bytes_ in sizes.items()}
        shared.print_json({"results": str(results), "removed": arguments.yes, "files": found})
        return OK
    for path, bytes_ in sizes.items():
        print(f"{_human(bytes_):>10}  {path}")
    print(f"{len(sizes)} files, {_human(sum(sizes.values()))}{' removed' * arguments.yes}")
    if sizes and not arguments.yes:
        print("nothing is removed yet: give the same command with --yes", file=sys.stderr)
    return OK


def _human(size: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
