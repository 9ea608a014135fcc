"""An equal tuning budget: for every method the same number of trials, and the best of them on validation images.

Trial 0 is the setting that the experiment has. Every other trial draws the settings of SHARED and those of the
method's `tuning`. What is drawn follows from the trial's number and the setting's name alone: every machine draws the
same, every method gets the same part of a range, and a longer search begins with the trials of a shorter one. A trial
is an ordinary run. Equal budgets: Gulrajani and Lopez-Paz 2021 (DomainBed); random search: Bergstra and Bengio 2012.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NewType

import numpy as np
from numpy.typing import NDArray

from benchmark.config.schema import tuning_of
from benchmark.errors import UserError
from benchmark.metrics.counts import dice, over_classes
from benchmark.protocols import NO_VALIDATION
from benchmark.randomness import derive, uniform
from benchmark.ranges import Choice, Linear, Log
from benchmark.registry import METHODS
from benchmark.runs.experiment import Cell, Experiment, Only
from benchmark.runs.plan import Planned, chosen
from benchmark.runs.request import Specifier
from benchmark.runs.run_files import read_counts, record_of

SHARED = {"optimiser.lr": 4.0}  # tuned for every method, from the configured value / 4 to the configured value x 4
ENDED = ("done", "diverged", "skipped")  # the same again, however often it is run
ValidationCounts = NewType("ValidationCounts", NDArray[np.int64])  # [images, 3], of several classes [images, K, 3]


class Place(NamedTuple):
    """What is tuned by itself: a row of the experiment on one data set at one label ratio."""

    row: str
    dataset: str
    ratio: int

    @classmethod
    def of(cls, cell: Cell) -> Place:
        assert cell.request.ratio is not None
        return cls(cell.row, cell.request.dataset, cell.request.ratio)

    def __str__(self) -> str:
        return f"{self.row}, {self.dataset} {self.ratio} %"


def score(draws: Sequence[ValidationCounts]) -> float:
    """A trial's Dice as `strict` defines it, of the validation images: the last step, argmax, native size, mean over
    images, then over draws; nan where it has none."""
    values = [dice(counts) if counts.ndim == 2 else over_classes(dice(counts)) for counts in draws]
    known = [each[~np.isnan(each)] for each in values]
    return float(np.mean([each.mean() for each in known])) if known and all(map(len, known)) else float("nan")


def choose(trials: Sequence[Sequence[ValidationCounts]]) -> int | None:
    """The trial with the best score, the first of equals; None where none has a score. It sees validation counts and
    nothing else."""
    scores = np.round([score(draws) for draws in trials], 12)
    return None if np.isnan(scores).all() else int(np.nanargmax(scores))


@dataclass(frozen=True)
class Tuned:
    """What the trials of a place came to: their runs, a tuple a trial, and their scores on validation images.

    chosen: a trial; None as long as not all have ended, or where none has a score. settings: of each trial, what
    differs from the experiment's. draws: of each trial.
    """

    place: Place
    settings: tuple[Mapping[str, Any], ...]
    draws: tuple[int, ...]
    trials: tuple[tuple[Planned, ...], ...]
    validation: tuple[float, ...]
    chosen: int | None

    @property
    def finished(self) -> int:
        """How many trials have ended on all their draws."""
        return sum(_ended(runs, self.draws) for runs in self.trials)

    @property
    def bare(self) -> bool:
        """Whether the method has no tuning ranges of its own, so that trials differ in SHARED alone."""
        return self.settings[1].keys() == SHARED.keys()

    @property
    def choice(self) -> str:
        """The chosen settings, e.g. `optimiser.lr=0.00131, method.threshold=0.9` in three digits, or `default`; empty
        where nothing is chosen."""
        if self.chosen is None:
            return ""
        told = (f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in self.settings[self.chosen].items())
        return ", ".join(told) or "default"


@dataclass(frozen=True)
class Search:
    """Trials of an experiment. experiment: its own cells and those of all trials, in the order in which they shall run.

    cells: of the experiment, of which some may not be asked for. settings, draws: of the trials of each place. untuned:
    places that cannot be tuned, and why.
    """

    experiment: Experiment
    cells: tuple[Cell, ...]
    settings: Mapping[Place, tuple[Mapping[str, Any], ...]]
    draws: Mapping[Place, tuple[int, ...]]
    untuned: Mapping[Place, str]

    def own(self, planned: Sequence[Planned]) -> list[Planned]:
        """The experiment's own runs, in its order, of the plan of everything."""
        runs = {(Place.of(e.cell), e.spec.fold): e for e in planned if not e.cell.trial}
        return [runs[Place.of(cell), cell.request.fold] for cell in self.cells]

    def results(self, planned: Sequence[Planned], results: Path) -> list[Tuned]:
        """What the trials came to whose plan this is, and which is chosen where all of a place have ended."""
        runs: dict[tuple[Place, int], list[Planned]] = defaultdict(list)
        for entry in planned:
            at = Place.of(entry.cell)
            if entry.spec.fold in self.draws.get(at, ()):
                runs[at, entry.cell.trial].append(entry)
        found = []
        for at, settings in self.settings.items():
            trials = tuple(tuple(runs[at, number]) for number in range(len(settings)))
            counts = [_counts(each, results) for each in trials]
            whole = all(_ended(each, self.draws[at]) for each in trials)
            scores = tuple(map(score, counts))
            found.append(Tuned(at, settings, self.draws[at], trials, scores, choose(counts) if whole else None))
        return found

    def tuned(self, found: Sequence[Tuned]) -> Experiment:
        """The experiment with the chosen settings, of the rows that have one."""
        best = {each.place: each.settings[each.chosen] for each in found if each.chosen is not None}
        cells = tuple(_with(cell, best[Place.of(cell)]) for cell in self.cells if Place.of(cell) in best)
        return replace(self.experiment, cells=cells)


def search(
    experiment: Experiment, trials: int, draws: Sequence[int] = (), only: Only | None = None
) -> Search:
    """The search with so many trials for every place that has a cell in `only`, each on these draws of the experiment
    (none: the first of the row that is not excluded). UserError where nothing can be tuned, with file and line for a
    mistake."""
    if trials < 2:
        raise UserError(f"--trials must be at least 2, it is {trials}: trial 0 is the default setting")
    cells, specifier = chosen(experiment.cells, only or {}), Specifier("cpu")
    by_place: dict[Place, list[Cell]] = defaultdict(list)
    for cell in experiment.cells:
        by_place[Place.of(cell)].append(cell)
    by_trial: list[list[Cell]] = [[] for _ in range(trials)]
    settings, on, untuned = {}, {}, {}
    for at in dict.fromkeys(map(Place.of, cells)):
        there, where = {cell.request.fold: cell for cell in by_place[at]}, by_place[at][0].where
        kept = [draw for draw, cell in there.items() if not cell.reason]
        try:
            runs = [specifier.specify(cell.request) for cell in by_place[at]]
            ranges = tuning_ranges(runs[0].spec.method, runs[0].spec.values)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if not kept or not all(run.split.validation for run in runs):
            untuned[at] = NO_VALIDATION if kept else f"excluded: {by_place[at][0].reason}"
            continue
        on[at] = tuple(draws) or (kept[0],)
        if unknown := [str(draw) for draw in on[at] if draw not in kept]:
            raise UserError(f"--draws: {at} has no draw {', '.join(unknown)}; there is {', '.join(map(str, kept))}")
        if fixed := [key for key in ranges if key in by_place[at][0].request.experiment]:
            raise UserError(f"{where}: `set` fixes {fixed[0]}, which `tune` draws; leave it out of `set`, or the row "
                            "out of `tune`")
        mine = [there[draw] for draw in on[at]]
        settings[at] = tuple(drawn(ranges, number) for number in range(trials))
        for number, values in enumerate(settings[at]):
            by_trial[number] += [replace(_with(cell, values), trial=number) for cell in mine]
    if not settings:
        at, why = next(iter(untuned.items()))
        raise UserError(f"nothing to tune: {at}: {why}{f'; and {len(untuned) - 1} more' if len(untuned) > 1 else ''}")
    first = list(chain(*by_trial))
    every = (*first, *(cell for cell in cells if cell not in by_trial[0]))
    return Search(replace(experiment, cells=every), tuple(cells), settings, on, untuned)


def tuning_ranges(method: str, values: Mapping[str, Any]) -> dict[str, Linear | Choice]:
    """What `tune` draws for a method that has these values without it, by dotted key."""
    shared: dict[str, Linear | Choice] = {
        key: Log(values[key] / factor, values[key] * factor) for key, factor in SHARED.items()
    }
    return shared | {f"method.{key}": drawn for key, drawn in tuning_of(METHODS.load(method)).items()}


def drawn(ranges: Mapping[str, Linear | Choice], trial: int) -> dict[str, Any]:
    """The settings of a trial; none of the first, which is the default."""
    return {key: each.at(uniform(2 * derive(trial, "tuning", key))) for key, each in ranges.items()} if trial else {}


def _with(cell: Cell, settings: Mapping[str, Any]) -> Cell:
    request = replace(cell.request, experiment={**cell.request.experiment, **settings})
    return replace(cell, request=request)


def _ended(runs: Sequence[Planned], draws: Sequence[int]) -> bool:
    return len(runs) == len(draws) and all(run.state in ENDED for run in runs)


def _counts(runs: Sequence[Planned], results: Path) -> list[ValidationCounts]:
    """Of a trial, a draw an entry; none where one of them has no score."""
    if not runs or any(run.state != "done" for run in runs):
        return []
    counts = [read_counts(record_of(results, run.spec.run_id), run.record or {}) for run in runs]
    return [ValidationCounts(each["validation_native"][:, 0]) for each in counts]
