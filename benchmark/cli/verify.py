"""`verify`: run a record's cell again and say whether the same comes out."""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmark.cli import common_args as shared
from benchmark.cli import run as run_verb
from benchmark.errors import CHECK_FAILED, OK, UserError
from benchmark.paths import results_folder
from benchmark.runs.signals import StopSignals

if TYPE_CHECKING:
    from benchmark.runs.request import Request


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("verify", help="run a record's cell again and compare", allow_abbrev=False)
    parser.add_argument("records", nargs="+", metavar="RECORD",
                        help="a record's file, a run id or the beginning of one; with --sample, an experiment")
    parser.add_argument("--sample", type=int, metavar="N", help="take N finished runs of the experiment at random")
    parser.add_argument("--seed", type=int, default=0, help="of --sample (default: 0)")
    shared.add_device(parser)
    shared.add_folders(parser)
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a line an aspect; exit code 4 where something differs."""
    stop = StopSignals()
    from benchmark.runs.records import read_record
    from benchmark.runs.verify import doubts, verify

    work, verdicts = [], []
    for path in _paths(arguments):  # doubts and mistakes come before anything is run
        record = read_record(path)
        work.append((path, partial(requested, record.get("command", ""))))
        for doubt in doubts(record, arguments.device):
            print(f"{path.stem}: equal numbers cannot be expected, {doubt} (docs/using-models.md)", file=sys.stderr)
    for path, asked in work:
        verdict = verify(
            path, asked, arguments.device, raw=arguments.data, asked_to_stop=lambda: stop.asked,
            on_progress=run_verb.ProgressDisplay(),
        )
        verdicts.append(verdict)
        if not arguments.json:
            print(f"{verdict.run_id}: {'equal' if verdict.equal else 'differs'}")
            for aspect, difference in verdict.differences.items():
                print(f"  {aspect}: {difference or 'equal'}", flush=True)
    if arguments.json:
        shared.print_json([verdict.to_json() for verdict in verdicts])
    return OK if all(verdict.equal for verdict in verdicts) else CHECK_FAILED


def _paths(arguments: argparse.Namespace) -> list[Path]:
    """The records' files."""
    results = results_folder(arguments.results)
    if arguments.sample is None:
        from benchmark.models.load import find

        found = [(name, find(name, results).record) for name in arguments.records]
        for name, path in found:
            if path is None:
                raise UserError(f"{name}: an export has no record to verify; name the run")
        return [path for _, path in found if path is not None]
    from benchmark.runs.verify import sample
    from benchmark.training import device as devices

    if len(arguments.records) > 1 or arguments.sample < 1:
        raise UserError("--sample N takes a number, at least 1, and one experiment: verify --sample 3 EXPERIMENT")
    kind = devices.choose(arguments.device).type
    paths = sample(arguments.records[0], arguments.sample, arguments.seed, results, kind)
    for path in paths:
        print(f"taken at random (seed {arguments.seed}): {path.stem}", file=sys.stderr)
    return paths


class _Parser(argparse.ArgumentParser):
    """Reads the command in a record, which may be of another version, and is none to answer with help."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "add_help": False})

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def requested(command: str) -> Request:
    """What a record's command asks for; UserError where it is not understood."""
    parser = _Parser()
    run_verb.add(parser.add_subparsers(parser_class=_Parser, required=True, dest="verb"))
    try:
        words = shlex.split(command)[3:]  # after `python -m benchmark`
    except ValueError as error:
        raise UserError(str(error)) from None
    return shared.request(parser.parse_args(words))
