"""`clean`: remove what killed and finished runs have left."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, RUN_FAILED, UserError
from benchmark.paths import results_folder

KINDS = ("unfinished", "checkpoints", "old", "runs")
ABOUT = """remove what killed and finished runs have left; without --yes it is only listed. Kinds:
  unfinished   temporary files that killed processes have left (the default)
  checkpoints  of runs whose record is done
  old          records and counts that were set aside by --overwrite
  runs         whole folders of runs whose record is done: weights, masks, logs
Records are never removed, nor what somebody is at work on."""


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("clean", description=ABOUT,
                              allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared.add_options(parser, "--results")
    parser.add_argument("--what", action="append", choices=KINDS, help="a kind; may be given several times")
    parser.add_argument("--yes", action="store_true", help="remove it; without this it is only listed")
    shared.add_options(parser, "--json")
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """List, or remove; exit code 1 where something could not be removed."""
    from benchmark.runs.cleanup import clean

    results = results_folder(arguments.results)
    asked = arguments.what or ["unfinished"]
    kinds = [kind for kind in KINDS if kind in asked]
    cleaning = clean(results, kinds, remove=arguments.yes)
    for line in [*cleaning.left_alone, *cleaning.failed]:
        print(line, file=sys.stderr)
    by_kind = {kind: [left for left in cleaning.found if left.kind == kind] for kind in kinds}
    if arguments.json:
        found = {
            kind: {"bytes": sum(left.size for left in lefts), "paths": [str(left.path) for left in lefts]}
            for kind, lefts in by_kind.items()
        }
        shared.print_json({"results": str(results), "removed": arguments.yes, "kinds": found,
                           "left_alone": [*cleaning.left_alone, *cleaning.failed]})
    elif cleaning.found:
        for kind, lefts in by_kind.items():
            for left in lefts:
                print(f"{human(left.size):>10}  {left.path}")
            print(f"{kind}: {len(lefts)}, {human(sum(left.size for left in lefts))}{' removed' * arguments.yes}")
        if not arguments.yes:
            print("nothing is removed yet: the same command with --yes does it", file=sys.stderr)
    else:
        stays = cleaning.left_alone or cleaning.failed
        print(f"{results}: nothing {'that can be removed' if stays else 'to remove'} ({', '.join(kinds)})")
    if cleaning.failed and arguments.yes:
        number = len(cleaning.failed)
        raise UserError(f"{number} thing{'s' * (number > 1)} could not be removed, see above", RUN_FAILED)
    return OK


def human(size: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
