"""The records that an experiment's report is made from, and what became of those that are not there."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmark.report.cells import Group, Wanted, group_experiment
from benchmark.runs.experiment import Experiment
from benchmark.runs.plan import Planned, plan
from benchmark.runs.records import read_counts

logger = logging.getLogger(__name__)

REASONS = {
    "stale": "its record was made by other code, or with other lists; `grid --retry stale` makes it anew",
    "running": "somebody is at it",
}
KINDS = ("cpu", "cuda")  # a run's precision, and so its identity, is resolved for one of them


class Gathered(NamedTuple):
    """An experiment's groups, the kind of device whose runs they are."""

    groups: list[Group]
    kind: str


def gather(experiment: Experiment, results: Path, kind: str | None = None) -> Gathered:
    """Read the records of `experiment` in `results`, of runs on one kind of device.

    kind: `cpu` or `cuda`; None takes the one with more records. UserError for damaged records and for mistakes in the
    experiment's file.
    """
    plans = {name: plan(experiment, results, name) for name in ((kind,) if kind else KINDS)}
    usable = Counter({name: sum(_usable(entry) for entry in entries) for name, entries in plans.items()})
    chosen = max(plans, key=lambda name: (usable[name], -KINDS.index(name)))
    for name in plans:
        if name != chosen and usable[name] and _specific(plans[name], plans[chosen]):
            logger.info(f"{usable[name]} records of runs on {name} are left out; --device {name} reports them")
    records, wanted = [], []
    for entry in plans[chosen]:
        missing, reason = "" if _usable(entry) else entry.state, ""
        if _usable(entry):
            assert entry.record is not None
            path = results / "records" / f"{entry.spec.run_id}.json"
            done = entry.record["status"] == "done"
            records.append((entry.record, read_counts(path, dict(entry.record)) if done else {}))
        else:
            reason = entry.cell.reason or REASONS.get(missing, "")
        wanted.append(Wanted(entry.cell.row, entry.spec.run_id, entry.spec.to_json(), missing, reason))
    groups = group_experiment(
        experiment.name, records, wanted, experiment.about, experiment.reference, experiment.published
    )
    return Gathered(groups, chosen)


def _usable(entry: Planned) -> bool:
    return entry.record is not None and entry.state not in ("stale", "excluded")


def _specific(one: list[Planned], other: list[Planned]) -> bool:
    """Whether these are other runs, not the same ones under another kind's name."""
    return {entry.spec.run_id for entry in one} != {entry.spec.run_id for entry in other}
