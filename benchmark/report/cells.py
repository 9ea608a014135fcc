"""Runs, and the cells of a table that they fall into; a run that did not end well is in its cell, too."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import protocols
from benchmark.config.compose import compose
from benchmark.errors import UserError
from benchmark.metrics import counts as pixels
from benchmark.plugins import portable, short
from benchmark.registry import METHODS
from benchmark.report import stats

Draw = tuple[int, int]  # (fold, seed)


@dataclass(frozen=True)
class Run:
    """One record with its counts; `label` is its row: the method, and what sets it apart from variants."""

    record: Mapping[str, Any]
    counts: Mapping[str, NDArray[Any]] = field(repr=False)
    label: str = ""

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.record["spec"]

    @property
    def done(self) -> bool:
        return self.record["status"] == "done"

    @property
    def draw(self) -> Draw:
        return int(self.spec["fold"]), int(self.spec["seed"])

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """All protocols, seen anew from the counts; not what the record says of them."""
        return protocols.scores(self.counts)

    @cached_property
    def waterfall(self) -> list[protocols.Stage] | None:
        return protocols.waterfall(self.counts)

    def per_image(self, metric: str) -> tuple[list[str], list[str], NDArray[np.float64]]:
        """Ids, patients and strict scores of the test images, ready for `stats.average_over_draws`."""
        ids = [str(name) for name in self.counts["test_ids"]]
        known = self.counts.get("test_groups_patient")
        patients = [""] * len(ids) if known is None else [str(name) for name in known]
        score = {"dice": pixels.dice, "jaccard": pixels.jaccard}[metric]
        return ids, patients, protocols.per_image(self.counts, score)


@dataclass(frozen=True)
class Wanted:
    """A run that an experiment asks for: its row, its specification as JSON, and why it is not there.

    `missing` is a state (missing, running, stale, excluded) with its reason, or empty where there is a record.
    """

    row: str
    run_id: str
    spec: Mapping[str, Any]
    missing: str = ""
    reason: str = ""

    @property
    def draw(self) -> Draw:
        return int(self.spec["fold"]), int(self.spec["seed"])


@dataclass(frozen=True)
class Group:
    """Runs that may stand in one table: the same data (by fingerprint), split and, without an experiment, preset.

    reference: the row that others are compared with. published: the table in configs/paper that belongs to it.
    """

    dataset: str
    split: str
    preset: str
    fingerprint: str
    runs: tuple[Run, ...]
    wanted: tuple[Wanted, ...]  # empty without an experiment
    name: str
    title: str
    about: str = ""
    reference: str | None = None
    published: str | None = None
    elsewhere: int = 0  # records of the experiment's runs that were made from other data, and are in another group

    @property
    def source(self) -> str:
        """What `load_dataset` finds the data by: of a folder of one's own also where it lies, or last lay."""
        specs = [entry.spec for entry in self.wanted] + [run.spec for run in reversed(self.runs)]
        return str(specs[0].get("source") or self.dataset) if specs else self.dataset

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Rows: in the experiment's order, else in that of the alphabet."""
        return tuple(dict.fromkeys([*(entry.row for entry in self.wanted), *sorted({run.label for run in self.runs})]))

    @cached_property
    def ratios(self) -> tuple[int, ...]:
        return tuple(sorted({spec["ratio"] for spec in (*(r.spec for r in self.runs), *(w.spec for w in self.wanted))}))

    @cached_property
    def _cells(self) -> dict[tuple[str, int], list[Run]]:
        cells: dict[tuple[str, int], list[Run]] = defaultdict(list)
        for run in self.runs:
            cells[run.label, run.spec["ratio"]].append(run)
        return cells

    @cached_property
    def _draws(self) -> dict[tuple[str, int], set[Draw]]:
        draws: dict[tuple[str, int], set[Draw]] = defaultdict(set)
        for entry in self.wanted:
            draws[entry.row, entry.spec["ratio"]].add(entry.draw)
        for run in () if self.wanted else self.runs:
            for label in self.labels:
                draws[label, run.spec["ratio"]].add(run.draw)
        return draws

    def draws(self, label: str, ratio: int) -> int:
        """How many draws a whole cell has: as many as the experiment asks for, or as any row of the group has there."""
        return len(self._draws.get((label, ratio), ()))

    def cell(self, label: str, ratio: int) -> list[Run]:
        """All runs of a cell, whatever became of them, in order of their draws."""
        return self._cells.get((label, ratio), [])

    def lost(self, label: str, ratio: int) -> list[Wanted]:
        """The runs of a cell that are wanted and have no record."""
        place = (label, ratio)
        return [entry for entry in self.wanted if entry.missing and (entry.row, entry.spec["ratio"]) == place]

    def finished(self, label: str, ratio: int) -> list[Run]:
        """The runs of a cell that have scores."""
        return [run for run in self.cell(label, ratio) if run.done]

    def images(self, label: str, ratio: int, metric: str = "dice") -> stats.Images:
        """The cell's strict per-image scores, averaged over its draws."""
        return stats.average_over_draws(run.per_image(metric) for run in self.finished(label, ratio))


Records = Iterable[tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]]]


def group_runs(records: Records) -> list[Group]:
    """All records, a group for every (dataset, split, preset, fingerprint of the data), in order of their names."""
    buckets: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for record, counts in records:
        spec = record["spec"]
        place = spec["dataset"], spec["split"], spec["preset"], record["data"].get("fingerprint", "")
        buckets[place].append(Run(record, counts))
    names = [safe_name(*place[:3]) for place in sorted(buckets)]
    groups = []
    for place, name in zip(sorted(buckets), names, strict=True):
        unique = name if names.count(name) == 1 else f"{name}-{place[3][:8] or 'unknown'}"
        runs = tuple(sorted(_labelled(buckets[place]), key=_order))
        dataset, split, preset, fingerprint = place
        title = f"{dataset}, split {split}, preset {preset}" + _of_data(fingerprint) * (names.count(name) > 1)
        groups.append(Group(dataset, split, preset, fingerprint, runs, (), unique, title))
    return groups


def group_experiment(
    name: str, records: Records, wanted: Sequence[Wanted], about: str = "", reference: str | None = None,
    published: str | None = None,
) -> list[Group]:
    """The runs of an experiment, a group for every data set and split that it has, in the experiment's order.

    Records of other fingerprints of the data than most have make a group of their own.
    """
    rows = {entry.run_id: entry.row for entry in wanted}
    buckets: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for record, counts in records:
        spec = record["spec"]
        place = spec["dataset"], spec["split"], record["data"].get("fingerprint", "")
        buckets[place].append(Run(record, counts, rows[record["run_id"]]))
    places = list(dict.fromkeys((entry.spec["dataset"], entry.spec["split"]) for entry in wanted))
    groups = []
    for dataset, split in places:
        mine = tuple(e for e in wanted if (e.spec["dataset"], e.spec["split"]) == (dataset, split))
        found = [place[2] for place in buckets if place[:2] == (dataset, split)] or [""]
        found.sort(key=lambda fingerprint: (-len(buckets[dataset, split, fingerprint]), fingerprint))
        several = [dataset] * (len({d for d, _ in places}) > 1) + [split] * (len({s for _, s in places}) > 1)
        for number, fingerprint in enumerate(found):
            parts = [name, *several] + [fingerprint[:8] or "unknown"] * (number > 0)
            presets = dict.fromkeys(entry.spec["preset"] for entry in mine)
            runs = tuple(buckets.get((dataset, split, fingerprint), ()))
            title = ", ".join([f"{name}: {dataset}", f"split {split}", f"preset {' and '.join(presets)}"])
            title += _of_data(fingerprint) * (len(found) > 1)
            others = sum(len(buckets[dataset, split, other]) for other in found if other != fingerprint)
            groups.append(Group(
                dataset, split, " and ".join(presets), fingerprint, runs, mine, safe_name(*parts), title, about,
                reference, published, others,
            ))
    return groups


def _of_data(fingerprint: str) -> str:
    return f", data {fingerprint[:8] or 'unknown'}"


def _labelled(runs: list[Run]) -> list[Run]:
    """The runs, named by method; of one method's runs with different settings, by what is not the preset's own.

    A method from outside is named by its class, or, where two files have a class of that name, by both.
    """
    by_method: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[portable(run.spec["method"])].append(run)
    classes = Counter(map(short, by_method))
    result = []
    for method, members in by_method.items():
        texts = [{key: json.dumps(value) for key, value in run.spec["values"].items()} for run in members]
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


def _order(run: Run) -> tuple[str, int, Draw, str]:
    return run.label, run.spec["ratio"], run.draw, run.record["run_id"]


def safe_name(*parts: str) -> str:
    """A name that is safe in any file system."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part) for part in parts)
