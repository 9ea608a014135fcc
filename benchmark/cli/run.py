"""`run`: one method on one dataset, to a record."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from typing import Any

from benchmark.cli import common_args as shared
from benchmark.errors import OK, RUN_FAILED
from benchmark.paths import results_folder
from benchmark.runs.signals import StopSignals

logger = logging.getLogger(__name__)


def add(verbs: shared.Verbs) -> None:
    """Describe the verb."""
    about = "train and evaluate one method; if its run is interrupted, continue it; if it is finished, print its scores"
    parser = shared.add_verb(
        verbs, "run", about, run, *shared.CELL, "--device", "--results", "--data", "--keep", "--json"
    )
    parser.add_argument("--overwrite", action="store_true", help="run anew; the old record is renamed, not removed")
    parser.add_argument("--checkpoint-seconds", type=shared.seconds, default=30.0, metavar="S",
                        help="time between checkpoints (default: 30)")


def run(arguments: argparse.Namespace) -> int:
    """Run, and print the record or its scores."""
    stop = StopSignals()
    from benchmark.runs.folder import folder_of
    from benchmark.runs.run import RunOptions, run_or_load

    results = results_folder(arguments.results)
    options = RunOptions(
        results, arguments.data, arguments.device, arguments.overwrite, keep=arguments.keep,
        checkpoint_seconds=arguments.checkpoint_seconds, wait_for_lock=True,
    )
    record, was_there = run_or_load(
        shared.request(arguments), options, asked_to_stop=lambda: stop.asked, on_progress=ProgressDisplay()
    )
    if was_there:
        logger.info(f"already {record['status']}: {record['run_id']}")
        if not folder_of(results, record["run_id"]).exists():
            logger.info(f"this record was made on another machine ({record['environment']['device']}) and came with "
                       f"{results}; its weights are not here. To train here: --results ANOTHER_FOLDER")
    trace = folder_of(results, record["run_id"]) / "error.txt"
    if record["status"] == "failed" and not was_there and trace.is_file():
        print(trace.read_text(encoding="utf-8"), end="", file=sys.stderr)
    shared.print_json(record) if arguments.json else print(summary(record))
    return OK if record["status"] in ("done", "skipped") else RUN_FAILED


def summary(record: dict[str, Any]) -> str:
    """A few lines for a person."""
    from benchmark.protocols import MEANING

    if record["status"] != "done":
        return f"{record['run_id']}\n{record['status']}: {record['reason']}"
    lines = [record["run_id"], f"{'protocol':<12}{'Dice':>8}{'Jaccard':>10}  how it is computed"]
    for name, meaning in MEANING.items():
        score = record["scores"].get(name)
        if score is not None and score.get("dice") is not None:
            lines.append(f"{name:<12}{100 * score['dice']:8.2f}{100 * score['jaccard']:10.2f}  {meaning}")
        else:
            lines.append(f"{name:<12}{'-':>8}{'-':>10}  {(score or {}).get('reason', '')}")
    cost = record["cost"]
    lines.append(f"{cost['steps']} steps, {cost['seconds_per_step']:.3f} s a step, {cost['wall_seconds']:.0f} s in all")
    return "\n".join(lines)


class ProgressDisplay:
    """A progress bar on a terminal; elsewhere a line now and then. Losses are shown when they are known."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown = 0.0
        self.begun: tuple[float, int] | None = None

    def __call__(self, step: int, steps: int, means: dict[str, float], seconds: float) -> None:
        now = time.monotonic()
        if self.begun is None:
            self.begun = (now, step)
        losses = ", ".join(f"{name} {value:.4f}" for name, value in list(means.items())[:3])
        if sys.stderr.isatty():
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(total=steps, initial=step, unit="step", leave=False)
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix_str(losses)
            if step >= steps:
                self.bar.close()
        elif now - self.shown > 20 or step >= steps:
            self.shown = now
            done = step - self.begun[1]
            left = (steps - step) * (now - self.begun[0]) / done if done else float("nan")
            rest = f", {left:.0f} s left" if done and step < steps else ""
            logger.info(f"step {step}/{steps}{rest}{f', mean losses: {losses}' if losses else ''}")
