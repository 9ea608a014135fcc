"""`run`, `verify`: make a run; make recorded runs again and compare them with their records."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.console import ProgressDisplay, StopSignals
from benchmark.errors import CHECK_FAILED, OK, RUN_FAILED, UserError
from benchmark.paths import results_folder

logger = logging.getLogger(__name__)


def add(verbs: shared.Verbs) -> None:
    """Describe the verbs."""
    about = "train and evaluate one method; if its run is interrupted, continue it; if it is finished, print its scores"
    parser = shared.add_verb(
        verbs, "run", about, run, *shared.CELL, "--device", "--results", "--data", "--keep", "--json"
    )
    parser.add_argument("--overwrite", action="store_true", help="run anew; the old record is renamed, not removed")
    parser.add_argument("--checkpoint-seconds", type=shared.seconds, default=30.0, metavar="S",
                        help="time between checkpoints (default: 30)")
    parser.add_argument("--tensorboard", action="store_true",
                        help="write losses and scores as event files while it trains; needs the package tensorboard")

    about = "make the runs of records again and compare"
    parser = shared.add_verb(verbs, "verify", about, verify, "--device", "--results", "--data", "--json")
    parser.add_argument("records", nargs="+", metavar="RECORD",
                        help="a record's file, a run's id or its beginning; with --sample: an experiment")
    parser.add_argument("--sample", type=int, metavar="N", help="take N finished runs of the experiment at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of what --sample takes (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Run, and print the record or its scores."""
    stop, progress = StopSignals(), ProgressDisplay()
    from benchmark.runs.run import RunOptions, run_or_load
    from benchmark.runs.run_files import folder_of, record_of

    results = results_folder(arguments.results)
    options = RunOptions(
        results, arguments.data, arguments.device, arguments.overwrite, keep=arguments.keep,
        checkpoint_seconds=arguments.checkpoint_seconds, wait_for_lock=True, events=arguments.tensorboard,
    )
    request = shared.request(arguments)
    record, was_there = run_or_load(request, options, asked_to_stop=lambda: stop.asked, on_progress=progress)
    if was_there:
        logger.info(f"already {record['status']}: {record['run_id']}"
                    + "; --tensorboard writes only while a run trains" * arguments.tensorboard)
        if not folder_of(results, record["run_id"]).exists():
            logger.info(f"{results} has this run's record (made on {record['environment']['device']}), but not its "
                        "folder with the weights. To train it here: --results ANOTHER_FOLDER")
    trace = folder_of(results, record["run_id"]) / "error.txt"
    if record["status"] == "failed" and not was_there and trace.is_file():
        print(trace.read_text(encoding="utf-8"), end="", file=sys.stderr)
    shared.show(arguments, record, [*summary(record), f"record: {record_of(results, record['run_id'])}"])
    return OK if record["status"] in ("done", "skipped") else RUN_FAILED


def summary(record: dict[str, Any]) -> list[str]:
    """A few lines for a person."""
    from benchmark.data.annotation import in_words
    from benchmark.protocols import MEANING

    if record["status"] != "done":
        return [record["run_id"], f"{record['status']}: {record['reason']}"]
    lines = [record["run_id"], f"{'protocol':<12}{'Dice':>8}{'Jaccard':>10}  how it is computed"]
    for name, meaning in MEANING.items():
        score = record["scores"].get(name)
        if score is not None and score.get("dice") is not None:
            at = score.get("threshold")
            chosen = "" if at is None else f"step {score['step']}, threshold {at:.2f}: "
            lines.append(f"{name:<12}{100 * score['dice']:8.2f}{100 * score['jaccard']:10.2f}  {chosen}{meaning}")
            lines += [f"  {kind:<10}{100 * of['dice']:8.2f}{100 * of['jaccard']:10.2f}"
                      for kind, of in score.get("classes", {}).items() if of["dice"] is not None]
        else:
            lines.append(f"{name:<12}{'-':>8}{'-':>10}  {(score or {}).get('reason', '')}")
    for name, there in record.get("elsewhere", {}).items():
        strict = there["scores"]["strict"]
        if strict["dice"] is not None:
            lines.append(f"{'strict':<12}{100 * strict['dice']:8.2f}{100 * strict['jaccard']:10.2f}  on {name}")
    if "annotation" in record["data"]:
        lines.append(f"annotated: {in_words(record['data']['annotation'])}")
    cost = record["cost"]
    lines.append(f"{cost['steps']} steps, {cost['seconds_per_step']:.3f} s a step, {cost['wall_seconds']:.0f} s in all")
    return lines


def verify(arguments: argparse.Namespace) -> int:
    """Print a line an aspect; exit code 4 where something differs."""
    stop = StopSignals()
    from benchmark.runs.run_files import read_record
    from benchmark.runs.verify import caveats_of
    from benchmark.runs.verify import verify as verify_record

    paths, found = _records(arguments), []
    for path in paths:  # mistakes and caveats come before anything is run
        for caveat in caveats_of(read_record(path), arguments.device):
            logger.warning("%s: exact equality is not expected: %s (docs/using-models.md)", path.stem, caveat)
    for path in paths:
        comparison = verify_record(
            path, arguments.device, raw=arguments.data, asked_to_stop=lambda: stop.asked, on_progress=ProgressDisplay()
        )
        found.append(comparison)
        if not arguments.json:
            print(f"{comparison.run_id}: {'equal' if comparison.equal else 'differs'}")
            for aspect, difference in comparison.differences.items():
                print(f"  {aspect}: {difference or 'equal'}", flush=True)
    shared.show(arguments, [vars(comparison) | {"equal": comparison.equal} for comparison in found], [])
    return OK if all(comparison.equal for comparison in found) else CHECK_FAILED


def _records(arguments: argparse.Namespace) -> list[Path]:
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
    paths = sample(names[0], arguments.sample, arguments.seed, results, devices.choose(arguments.device))
    for path in paths:
        logger.info("taken at random (seed %d): %s", arguments.seed, path.stem)
    return paths
