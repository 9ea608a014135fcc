"""`tune`: as many trials for every method, the best of them chosen on validation images, and run on all draws."""

from __future__ import annotations

import argparse
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmark.cli import common_args as shared
from benchmark.cli.grid import PART, check, run_missing, run_options, states_in_words
from benchmark.console import StopSignals
from benchmark.errors import GRID_INCOMPLETE, INTERRUPTED, OK, RUN_FAILED, UserError
from benchmark.paths import results_folder

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from benchmark.runs.tuning import Search, Tuned


def add(verbs: shared.Verbs) -> None:
    """Describe the verb."""
    about = "give every method of an experiment the same number of trials, and run the best setting"
    parser = shared.add_verb(verbs, "tune", about, tune, *PART, "--trials", "--draws", "--data", "--keep")
    run_options(parser)
    parser.set_defaults(launcher="local", sbatch=[], show=False, progress="this command with --dry-run")


def tune(arguments: argparse.Namespace) -> int:
    """Run the trials, choose, run what was chosen, and say what came of it."""
    stop = StopSignals()
    from benchmark.data.load import current_fingerprint
    from benchmark.runs.experiment import read_experiment
    from benchmark.runs.plan import count, plan
    from benchmark.runs.tuning import ENDED, search
    from benchmark.training import device as devices

    check(arguments)
    experiment = read_experiment(arguments.experiment)
    trials = arguments.trials if arguments.trials is not None else experiment.trials
    if trials is None:
        raise UserError("say how many trials every method gets: --trials N, or `trials: N` in the experiment's file")
    asked = search(experiment, trials, arguments.draws, shared.only(arguments))
    _tell(asked)
    planned, code = run_missing(asked.experiment, arguments, stop, {})
    results = results_folder(arguments.results)
    every = planned or []
    if arguments.shard != (1, 1):  # the others' trials are looked at, too
        data_now = partial(current_fingerprint, raw=arguments.data)
        kind = devices.choose(arguments.device, must_exist=False).type
        every = plan(asked.experiment, results, kind, fingerprint_of=data_now)
    states, after, again = count(planned or []), {}, OK
    found = asked.results(every, results)
    if (best := asked.tuned(found)).cells and not stop.asked:
        logger.info("with the chosen settings:")
        tuned, again = run_missing(best, arguments, stop, {})
        after = count(tuned or [])
    answer = {"experiment": experiment.name, "trials": trials, "states": states, "states_tuned": after,
              "places": list(map(_line, found))}  # fmt: skip
    total = f"{states_in_words(states)}; with the chosen settings {states_in_words(after) or 'nothing'}"
    shared.show(arguments, answer, [*map(_in_words, found), total])
    if stop.asked:
        return INTERRUPTED
    whole = all(each.finished == len(each.trials) for each in found)
    ended = whole and not (states | after).keys() - {*ENDED, "excluded"}
    if ended or arguments.dry_run:
        return OK  # also where a trial has diverged
    return RUN_FAILED if RUN_FAILED in (code, again) else GRID_INCOMPLETE


def _tell(asked: Search) -> None:
    """What is not as a reader may expect: places without a search, and methods with no tuning ranges of their own."""
    from benchmark.runs.tuning import SHARED

    for at, why in asked.untuned.items():
        logger.info(f"not tuned: {at} ({why})")
    bare = {at.row for at, settings in asked.settings.items() if not settings[1].keys() - SHARED.keys()}
    if bare:
        logger.info(f"without tuning ranges of their own, so {', '.join(SHARED)} alone: {', '.join(sorted(bare))}")


def _line(found: Tuned) -> dict[str, Any]:
    """What came of a place, for JSON."""
    scores = [None if math.isnan(value) else value for value in found.validation]
    return found.place._asdict() | {
        "draws": found.draws, "finished": found.finished, "chosen": found.chosen, "validation": scores,
        "settings": None if found.chosen is None else found.settings[found.chosen],
        "run_ids": [[run.spec.run_id for run in runs] for runs in found.trials],
    }


def _in_words(found: Tuned) -> str:
    trials = len(found.trials)
    if found.finished < trials:
        return f"{found.place}: {found.finished} of {trials} trials have ended; nothing is chosen before all have"
    if found.chosen is None:
        return f"{found.place}: no trial has a score"
    chosen, default = (f"{100 * found.validation[trial]:.2f}" for trial in (found.chosen, 0))
    scores = f"validation Dice {chosen}, default {default}"
    return f"{found.place}: trial {found.chosen} of {trials} ({found.choice}); {scores}"
