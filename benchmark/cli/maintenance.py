"""`clean`, `records`: remove files of a results folder, and merge records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmark.cli import common_args as shared
from benchmark.errors import OK
from benchmark.paths import results_folder

CLEAN = """list files that are not needed any more; with --yes, remove them

These are archived records and checkpoints (*.old1, ...), checkpoints of finished runs, and temporary files older than a
day. Records and running runs are never removed."""


def add(verbs: shared.Verbs) -> None:
    """Describe the verbs."""
    parser = shared.add_verb(verbs, "clean", CLEAN, clean, "--results", "--json")
    parser.add_argument("--yes", action="store_true", help="remove the files; without this they are only listed")

    actions = shared.add_group(verbs, "records", "copy the records of other people or machines", "ACTION")
    about = "copy records that are missing, and their counts, from other results folders; refuse where two differ"
    parser = shared.add_verb(actions, "merge", about, merge_records, "--results", "--json")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="a results folder, or the records folder in one")
    parser.add_argument("--dry-run", action="store_true", help="show what would be copied, and copy nothing")


def clean(arguments: argparse.Namespace) -> int:
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
        print(f"{bytes_ / 2**20:8.1f} MiB  {path}")
    print(f"{len(sizes)} files, {sum(sizes.values()) / 2**20:.1f} MiB{' removed' * arguments.yes}")
    if sizes and not arguments.yes:
        print("nothing is removed yet: give the same command with --yes", file=sys.stderr)
    return OK


def merge_records(arguments: argparse.Namespace) -> int:
    """Copy, and show what each folder had; exit code 4 where records differ, and nothing is copied then."""
    from benchmark.runs.maintenance import merge

    results = results_folder(arguments.results)
    found = merge([Path(folder) for folder in arguments.folders], results, dry_run=arguments.dry_run)
    if arguments.json:
        sources = [{"folder": str(folder)} | runs for folder, runs in found.items()]
        shared.print_json({"results": str(results), "dry_run": arguments.dry_run, "sources": sources})
        return OK
    for folder, runs in found.items():
        text = ", ".join(f"{len(names)} {what}" for what, names in runs.items())
        print(f"{folder}: {text}{' (dry run)' * arguments.dry_run}")
    return OK
