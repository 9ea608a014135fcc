"""Which records make which table, of an experiment or of whatever there is; and which do not belong together."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from numpy.typing import NDArray

from benchmark.config.compose import compose
from benchmark.config.schema import neutral_settings
from benchmark.errors import UserError
from benchmark.protocols import strict
from benchmark.registry import METHODS, portable, short
from benchmark.report.results_frame import CELL, DRAW, ExpectedRun, Group, Run, Tuning
from benchmark.report.sources import safe_name, with_other_data
from benchmark.runs.run_files import read_counts, read_record, record_files, record_of

if TYPE_CHECKING:
    from benchmark.runs.experiment import Experiment, Only
    from benchmark.runs.plan import Planned
    from benchmark.runs.tuning import Tuned

logger = logging.getLogger(__name__)

REASONS = {
    "stale": "its record was made by other code, or with other lists; `grid --retry stale` makes it anew",
    "running": "a process is working on it",
}
KINDS = ("cpu", "cuda")  # a run's precision, and so its identity, is resolved for one of them
Records = Iterable[tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]]]


def gather(
    experiment: Experiment, results: Path, kind: str | None = None, only: Only | None = None,
    trials: int | None = None, draws: Sequence[int] = (),
) -> list[Group]:
    """The runs of `experiment` whose records are in `results`, on one kind of device: a group a data set and split.

    kind: `cpu` or `cuda`; None takes the one with more records. only: as in `runs.plan.plan`. trials, draws: of `tune`;
    behind each group follows that of the runs with the chosen settings. UserError names every damaged record, or a
    mistake in the experiment's file.
    """
    try:
        return _gather(experiment, results, kind, only or {}, trials, draws)
    except UserError:
        check_records(results)
        raise


def _gather(
    experiment: Experiment, results: Path, kind: str | None, only: Only, trials: int | None,
    draws: Sequence[int],
) -> list[Group]:
    from benchmark.runs.plan import plan  # a run's id needs its method's signature, and so torch
    from benchmark.runs.tuning import search

    asked = None if trials is None else search(experiment, trials, draws, only)
    wanted = (experiment, only) if asked is None else (asked.experiment, {})
    plans = {name: plan(wanted[0], results, name, wanted[1]) for name in ((kind,) if kind else KINDS)}
    usable = Counter({name: sum(map(_usable, entries)) for name, entries in plans.items()})
    chosen = max(plans, key=lambda name: (usable[name], -KINDS.index(name)))
    ids = {name: {entry.spec.run_id for entry in entries} for name, entries in plans.items()}
    for name in plans:
        if usable[name] and ids[name] != ids[chosen]:
            logger.warning(f"{usable[name]} records of runs on {name} are left out; --device {name} reports them")
    if asked is None:
        return _grouped(experiment, plans[chosen], results, only)
    groups, found = _grouped(experiment, asked.own(plans[chosen]), results, only), asked.results(plans[chosen], results)
    best = asked.tuned(found)
    tuned = _grouped(best, plan(best, results, chosen), results, only) if best.cells else []
    return [each for group in groups for each in _with_tuning(group, found, tuned, results)]


def _with_tuning(group: Group, found: Sequence[Tuned], tuned: Sequence[Group], results: Path) -> list[Group]:
    """A group that knows what its trials came to, and its runs with the chosen settings as a group of their own."""
    place = group.dataset, group.split
    mine = tuple(each for each in found if _place(each.trials[0][0].spec.to_json()) == place)
    test = tuple(tuple(_test_score(runs, results) for runs in each.trials) for each in mine)
    again = [
        replace(other, name=f"{group.name}-tuned", title=f"{group.title}, tuned", tuned=True, published=None,
                about="Every row with the setting that `tune` has chosen for it on validation images.")
        for other in tuned if (other.dataset, other.split, other.fingerprint) == (*place, group.fingerprint)
    ]  # fmt: skip
    return [replace(group, tuning=Tuning(mine, test, *again) if mine else None), *again]


def _test_score(runs: Sequence[Planned], results: Path) -> float:
    """The strict Dice of a trial, the mean over its draws; nan where one has none."""
    if any(run.record is None or run.state != "done" for run in runs):
        return math.nan
    scores = [strict(read_counts(record_of(results, run.spec.run_id), run.record or {}))["dice"] for run in runs]
    return math.nan if None in scores else sum(scores) / len(scores)


def _grouped(
    experiment: Experiment, entries: Sequence[Planned], results: Path, only: Only
) -> list[Group]:
    records, expected = [], []
    for entry in entries:
        missing = reason = ""
        if _usable(entry):
            assert entry.record is not None
            records.append((entry.record, read_counts(record_of(results, entry.spec.run_id), entry.record)))
        else:
            missing, reason = entry.state, entry.cell.reason or REASONS.get(entry.state, "")
        expected.append(ExpectedRun(entry.cell.row, entry.spec.run_id, entry.spec.to_json(), missing, reason))
    return group_experiment(experiment, records, expected, only)


def _usable(entry: Planned) -> bool:
    return entry.record is not None and entry.state not in ("stale", "excluded")


def check_records(results: Path) -> list[tuple[dict[str, Any], dict[str, NDArray[Any]]]]:
    """All records of a results folder with their counts; UserError names every one that is damaged."""
    found, complaints = [], []
    for path in record_files(results / "records"):
        try:
            record = read_record(path)
            found.append((record, read_counts(path, record)))
        except UserError as error:
            complaints.append(str(error))
    if len(complaints) > 1:
        raise UserError(f"{len(complaints)} records cannot be used, so nothing is written: {' | '.join(complaints)}")
    if complaints:
        raise UserError(complaints[0])
    return found


def group_runs(records: Records) -> list[Group]:
    """All records, a group for every (dataset, split, preset, fingerprint of the data), in order of their names."""
    buckets: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for record, counts in records:
        spec = record["spec"]
        place = spec["dataset"], spec["split"], spec["preset"], record["data"].get("fingerprint", "")
        buckets[place].append(Run(record, counts))
    names = Counter(safe_name(*place[:3]) for place in buckets)
    groups = []
    for (dataset, split, preset, fingerprint), found in sorted(buckets.items()):
        name, title = safe_name(dataset, split, preset), f"{dataset}, split {split}, preset {preset}"
        if names[name] > 1:
            name, title = f"{name}-{fingerprint[:8] or 'unknown'}", title + _of_data(fingerprint)
        runs = tuple(sorted(_named(found), key=lambda run: tuple(run.place.values())))
        methods = {run.row: run.spec["method"] for run in runs}
        displays = {row: row.replace(short(method), METHODS.display(method), 1) for row, method in methods.items()
                    if row.partition(" (")[0] == short(method)}  # fmt: skip
        groups.append(Group(dataset, split, preset, fingerprint, runs, (), name, title, displays=displays))
    return [*with_other_data(groups)]


def group_experiment(
    experiment: Experiment, records: Records, expected: Sequence[ExpectedRun], only: Only | None = None
) -> list[Group]:
    """The runs of an experiment, a group for every data set and split that it has, in the experiment's order.

    Records of other fingerprints of the data than most have make a group of their own. only: the part of the experiment
    that `expected` is; names and titles say it.
    """
    rows = {entry.run_id: entry.row for entry in expected}
    buckets: dict[tuple[str, str], dict[str, list[Run]]] = {_place(entry.spec): defaultdict(list) for entry in expected}
    for record, counts in records:
        found = buckets[_place(record["spec"])][record["data"].get("fingerprint", "")]
        found.append(Run(record, counts, rows[record["run_id"]]))
    several = [len({place[axis] for place in buckets}) > 1 for axis in (0, 1)]
    groups, part = [], only or {}
    for place, by_data in buckets.items():
        mine = tuple(entry for entry in expected if _place(entry.spec) == place)
        presets = " and ".join(dict.fromkeys(entry.spec["preset"] for entry in mine))
        ordered = sorted(by_data or {"": []}, key=lambda data: (-len(by_data[data]), data))
        total = sum(map(len, by_data.values()))
        for number, data in enumerate(ordered):
            runs = tuple(by_data[data])
            parts = [experiment.name, *("_".join((key, *values)) for key, values in part.items())]
            parts += [name for name, more in zip(place, several, strict=True) if more]
            parts += [data[:8] or "unknown"] * (number > 0)
            title = f"{experiment.name}: {place[0]}, split {place[1]}, preset {presets}"
            title += _of_data(data) * (len(ordered) > 1)
            title += "".join(f", {key} {' and '.join(values)} only" for key, values in part.items())
            groups.append(Group(
                *place, presets, data, runs, mine, safe_name(*parts), title, experiment.about, experiment.reference,
                experiment.published, total - len(runs), {cell.row: cell.display for cell in experiment.cells},
            ))
    return [*with_other_data(groups)]


def _place(spec: Mapping[str, Any]) -> tuple[str, str]:
    return spec["dataset"], spec["split"]


def _of_data(fingerprint: str) -> str:
    return f", data {fingerprint[:8] or 'unknown'}"


def _named(runs: list[Run]) -> list[Run]:
    """The runs, named by method; of one method's runs with different settings, by what is not the preset's own.

    A method from outside is named by its class, or, where two files have a class of that name, by both.
    """
    by_method: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[portable(run.spec["method"])].append(run)
    classes = Counter(map(short, by_method))
    result = []
    for method, members in by_method.items():
        texts = [{key: json.dumps(value) for key, value in {**neutral_settings(), **run.spec["values"]}.items()}
                 for run in members]  # fmt: skip
        keys = sorted({key for text in texts for key in text if len({other.get(key) for other in texts}) > 1})
        usual = _usual(members[0].spec) if keys else {}
        name = short(method) if classes[short(method)] == 1 else method
        for run, text in zip(members, texts, strict=True):
            unusual = [key for key in keys if text.get(key) != usual.get(key)]
            settings = ", ".join(f"{key}={text.get(key, 'unset')}".replace('"', "") for key in unusual)
            result.append(Run(run.record, run.counts, f"{name} ({settings})" if settings else name))
    return result


def _usual(spec: Mapping[str, Any]) -> dict[str, str]:
    """The settings that the preset gives this method, as JSON; none where method or preset are not here any more."""
    try:
        settings = compose(spec["method"], METHODS.load(spec["method"]), spec["dataset"], spec["preset"]).settings
    except UserError:
        return {}
    return {key: json.dumps(setting.value) for key, setting in settings.items()}


def warnings_of(group: Group) -> list[str]:
    """What a reader must know before trusting a table, a sentence each: records that do not belong together, or
    contradict themselves; none when the runs may be compared."""
    told = []
    if group.other_data_count:
        told.append(f"{group.other_data_count} runs of this experiment were made from other data, and are in a table "
                    "of their own.")  # fmt: skip
    if group.runs:
        told += _mixed(group)
    return told + [f"The scores in record {run.record['run_id']} are not those of its counts; the counts are shown."
                   for run in group.done if not _agree(run)]  # fmt: skip


def _mixed(group: Group) -> Iterator[str]:
    """Versions, lists, devices and draws that should be one and are several."""
    facts = pd.DataFrame([
        {**run.place, "done": run.done, "device": run.device, "lists": str(run.record["data"].get("split_fingerprint")),
         "engine": str(run.record["numerics"].get("engine")), "method": str(run.record["numerics"].get("method"))}
        for run in group.runs
    ])  # fmt: skip
    engines = facts.engine.unique()
    if len(engines) > 1:
        yield f"These runs were made by {len(engines)} versions of the engine whose numbers differ ({_all(engines)})."
    for row, versions in facts.groupby("row", sort=False).method.unique().items():
        if len(versions) > 1:
            name = group.display(str(row))
            yield f"The runs of {name} were made by {len(versions)} versions of the method ({_all(versions)})."
    for (ratio, fold), number in facts.groupby(["ratio", "fold"]).lists.nunique().items():
        if number > 1:
            yield f"At {ratio} %, fold {fold}, the runs used {number} different lists of images."
    done = facts[facts.done]
    devices = done.groupby("device").size()  # kernels differ between models of a device (docs/findings.md)
    if len(devices) > 1:
        named = ", ".join(f"{number} on {name}" for name, number in devices.items())
        models = f"{len(devices)} models of a device ({named})"
        yield f"These runs were made on {models}, and one run differs between models."
    for (row, ratio), found in done[done.duplicated([*CELL, *DRAW])].groupby(CELL, sort=False):
        twice = set(zip(found.fold, found.seed, strict=True))
        yield f"{group.display(row)} at {ratio} % has several records of the same (fold, seed): {_all(twice)}."


def _agree(run: Run) -> bool:
    """Whether the stored Dice of every protocol is that of the counts; a protocol that is not stored agrees."""
    stored = {protocol: scores.get("dice") for protocol, scores in run.record["scores"].items() if scores}
    pairs = [(value, run.scores[protocol]["dice"]) for protocol, value in stored.items() if protocol in run.scores]
    return all(old == new or (None not in (old, new) and math.isclose(old, new, abs_tol=1e-9)) for old, new in pairs)


def _all(values: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, values)))
