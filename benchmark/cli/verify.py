"""`verify`: make the runs of records again and say whether the same comes out."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from benchmark.cli import common_args as shared
from benchmark.cli.run import ProgressDisplay
from benchmark.errors import CHECK_FAILED, OK, UserError
from benchmark.paths import results_folder
from benchmark.runs.signals import StopSignals

logger = logging.getLogger(__name__)


def add(verbs: shared.Verbs) -> None:
    """Describe the verb."""
    about = "make the runs of records again and compare"
    parser = shared.add_verb(verbs, "verify", about, run, "--device", "--results", "--data", "--json")
    parser.add_argument("records", nargs="+", metavar="RECORD",
                        help="a record's file, a run's id or its beginning; with --sample: an experiment")
    parser.add_argument("--sample", type=int, metavar="N", help="take N finished runs of the experiment at random")
    parser.add_argument("--seed", type=int, default=0, help="of --sample (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Print a line an aspect; exit code 4 where something differs."""
    stop = StopSignals()
    from benchmark.runs.records import read_record
    from benchmark.runs.verify import caveats_of, verify

    paths, found = _paths(arguments), []
    for path in paths:  # mistakes and caveats come before anything is run
        for caveat in caveats_of(read_record(path), arguments.device):
            logger.warning("%s: exact equality is not expected: %s (docs/using-models.md)", path.stem, caveat)
    for path in paths:
        comparison = verify(
            path, arguments.device, raw=arguments.data, asked_to_stop=lambda: stop.asked, on_progress=ProgressDisplay()
        )
        found.append(comparison)
        if not arguments.json:
            print(f"{comparison.run_id}: {'equal' if comparison.equal else 'differs'}")
            for aspect, difference in comparison.differences.items():
                print(f"  {aspect}: {difference or 'equal'}", flush=True)
    if arguments.json:
        shared.print_json([comparison.to_json() for comparison in found])
    return OK if all(comparison.equal for comparison in found) else CHECK_FAILED


def _paths(arguments: argparse.Namespace) -> list[Path]:
    """The records' files."""
    from benchmark.models.load import find
    from benchmark.runs.verify import sample
    from benchmark.training import device as devices

    results, names = results_folder(arguments.results), arguments.records
    if arguments.sample is None:
        found = {name: find(name, results)[0] for name in names}
        if exports := [name for name, path in found.items() if path is None]:
            raise UserError(f"{exports[0]}: an export has no record to verify; name the run")
        return [path for path in found.values() if path is not None]
    if len(names) > 1 or arguments.sample < 1:
        raise UserError("--sample N takes one experiment and a number of at least 1: verify EXPERIMENT --sample 3")
    paths = sample(names[0], arguments.sample, arguments.seed, results, devices.choose(arguments.device).type)
    for path in paths:
        logger.info("taken at random (seed %d): %s", arguments.seed, path.stem)
    return paths
