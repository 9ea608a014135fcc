"""`run`: one method on one dataset, to a record."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, RUN_FAILED
from benchmark.paths import results_folder
from benchmark.runs.signals import StopSignals


def add(verbs: Any) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("run", help="train and evaluate one method; continue it, or show it when it is done",
                              allow_abbrev=False)
    shared.add_cell(parser)
    shared.add_device(parser)
    shared.add_folders(parser)
    parser.add_argument("--keep", choices=("nothing", "weights", "all"), default="weights",
                        help="what to leave in the run's folder (default: weights)")
    parser.add_argument("--overwrite", action="store_true", help="run again; the old record is kept as NAME.old1")
    parser.add_argument("--checkpoint-seconds", type=float, default=30.0, metavar="S",
                        help="time between checkpoints (default: 30)")
    shared.add_json(parser)
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Run, and print the record or its scores."""
    stop = StopSignals()
    from benchmark.runs.run import RunOptions, run_or_load

    options = RunOptions(
        results_folder(arguments.results), arguments.data, arguments.device, arguments.overwrite, keep=arguments.keep,
        checkpoint_seconds=arguments.checkpoint_seconds, wait_for_lock=True,
    )
    request = shared.request(arguments)
    record, was_there = run_or_load(
        request, options, asked_to_stop=lambda: stop.asked, on_progress=ProgressDisplay()
    )
    if was_there:
        print(_where_it_came_from(record, options.results), file=sys.stderr)
    if arguments.json:
        shared.print_json(record)
    else:
        print(summary(record))
    return OK if record["status"] in ("done", "skipped") else RUN_FAILED


def _where_it_came_from(record: dict[str, Any], results: Path) -> str:
    """One line on a run that was finished before this command."""
    from benchmark.runs.folder import folder_of

    said = f"already {record['status']}: {record['run_id']}"
    if folder_of(results, record["run_id"]).is_dir():
        return said
    device = record["environment"]["device"]
    return (f"{said}; this record came with {results / 'records'} (made on {device}), nothing was trained here and its "
            "weights are not here. To train it here, name another folder: --results DIR")


def summary(record: dict[str, Any]) -> str:
    """A few lines for a person."""
    if record["status"] != "done":
        return f"{record['run_id']}\n{record['status']}: {record['reason']}"
    lines = [record["run_id"], f"{'protocol':<12}{'Dice':>8}{'Jaccard':>10}"]
    for name in ("strict", "validation", "paper"):
        score = record["scores"].get(name)
        if score is not None and score.get("dice") is not None:
            lines.append(f"{name:<12}{100 * score['dice']:8.2f}{100 * score['jaccard']:10.2f}")
        else:
            lines.append(f"{name:<12}{'-':>8}{'-':>10}  {(score or {}).get('reason', '')}")
    cost = record["cost"]
    lines.append(f"{cost['steps']} steps, {cost['seconds_per_step']:.3f} s a step, {cost['wall_seconds']:.0f} s in all")
    return "\n".join(lines)


class ProgressDisplay:
    """A progress bar on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown = 0.0
        self.begun: tuple[float, int] | None = None

    def __call__(self, step: int, steps: int, means: dict[str, float], seconds: float) -> None:
        now = time.monotonic()
        if self.begun is None:
            self.begun = (now, step)
        losses = [f"{name} {value:.4f}" for name, value in means.items() if name != "step"][:3]  # a few will do
        if sys.stderr.isatty():
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(total=steps, initial=step, unit="step", leave=False)
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix_str(", ".join(losses))
            if step >= steps:
                self.bar.close()
        elif now - self.shown > 20 or step >= steps:
            self.shown = now
            done = step - self.begun[1]
            left = (steps - step) * (now - self.begun[0]) / done if done else float("nan")
            rest = [f"{left:.0f} s left"] if done and step < steps else []
            print(", ".join([f"step {step}/{steps}", *rest, *losses]), file=sys.stderr, flush=True)
