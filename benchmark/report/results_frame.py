"""The runs of a table as tidy frames: a line a run, protocol and metric; a line a run and test image; a line a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark import protocols
from benchmark.data.fold_lists import patients
from benchmark.metrics.counts import dice, jaccard
from benchmark.report import stats
from benchmark.runs.run_files import device_label

if TYPE_CHECKING:
    from benchmark.runs.tuning import Tuned  # needs torch

CELL = ["row", "ratio"]
DRAW = ["fold", "seed"]
METRICS = {"dice": dice, "jaccard": jaccard}
PIXELS = ("object_hausdorff", "hd95", "asd")
STRICT_METRICS = ("precision", "recall", "object_f1", "object_dice", *PIXELS)
SUBSET = "test_groups_"  # of the arrays of counts that say what is known of the test images
UNKNOWN = "unknown"
OWN_COLUMNS = {*CELL, *DRAW, "run_id", "image", "unit", *METRICS}  # of `Group.images`


@dataclass(frozen=True)
class Run:
    """A record with its counts, and the row of the table that it belongs to."""

    record: Mapping[str, Any]
    counts: Mapping[str, NDArray[Any]] = field(repr=False)
    row: str = ""

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.record["spec"]

    @property
    def done(self) -> bool:
        return self.record["status"] == "done"

    @property
    def place(self) -> dict[str, Any]:
        """The columns that all frames share."""
        keys = {key: int(self.spec[key]) for key in ("ratio", "fold", "seed")}
        return {"row": self.row, **keys, "run_id": self.record["run_id"]}

    @property
    def cell(self) -> tuple[str, int]:
        """Its row and label ratio."""
        return self.row, int(self.spec["ratio"])

    @property
    def draw(self) -> tuple[int, int]:
        """Its fold and seed."""
        return int(self.spec["fold"]), int(self.spec["seed"])

    @property
    def device(self) -> str:
        """The model of the device that the run was made on."""
        return device_label(self.record["environment"])

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """All protocols, computed anew from the counts; not what the record says of them."""
        return protocols.scores(self.counts)

    @property
    def costs(self) -> dict[str, Any]:
        """The record's costs, and the labelled images a second that follow: all methods see as many a step."""
        cost, batch = dict(self.record.get("cost") or {}), self.spec["values"].get("train.batch_labelled")
        if cost.get("seconds_per_step") and batch:
            cost["images_per_second"] = batch / cost["seconds_per_step"]
        return cost


@dataclass(frozen=True)
class ExpectedRun:
    """A run that an experiment asks for: its row, its specification as JSON, and why it is not there.

    missing: a state (missing, running, stale, excluded) with its reason, or empty where there is a record.
    """

    row: str
    run_id: str
    spec: Mapping[str, Any]
    missing: str = ""
    reason: str = ""

    @property
    def place(self) -> dict[str, Any]:
        return {"row": self.row, **{key: int(self.spec[key]) for key in ("ratio", "fold", "seed")}}


@dataclass(frozen=True, eq=False)
class Tuning:
    """The trials of a group's rows. test: the strict Dice of each trial of each place, which no choice depends on; nan
    where it has none. group: the runs with the chosen settings, where there are any."""

    found: tuple[Tuned, ...]
    test: tuple[tuple[float, ...], ...]
    group: Group | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that may stand in one table: the same data (by fingerprint), split and, without an experiment, preset.

    expected: empty without an experiment. reference: the row that others are compared with. published: the table in
    configs/paper that belongs to it. other_data_count: records of the experiment's runs that were made from other data.
    displays: what a row is called in tables and figures, where that is not the row's own name. tuning: what `tune` has
    found for its rows. tuned: whether these are the runs with the chosen settings.
    """

    dataset: str
    split: str
    preset: str
    fingerprint: str
    runs: tuple[Run, ...]
    expected: tuple[ExpectedRun, ...]
    name: str
    title: str
    about: str = ""
    reference: str | None = None
    published: str | None = None
    other_data_count: int = 0
    displays: Mapping[str, str] = field(default_factory=dict)
    tuning: Tuning | None = None
    tuned: bool = False

    def display(self, row: str | None) -> str:
        """The name of a row for a reader."""
        return self.displays.get(str(row), str(row))

    def line(self, place: Any) -> list[str]:
        """The first two columns of most tables: the name of the row, and the label ratio."""
        return [self.display(place[0]), f"{place[1]} %"]

    @property
    def source(self) -> str:
        """What `load_dataset` finds the data by: of a folder of one's own also where it lies, or last lay."""
        specs = [entry.spec for entry in self.expected] + [run.spec for run in reversed(self.runs)]
        if not specs or specs[0]["dataset"] != self.dataset:  # runs are scored on this other data, too
            return self.dataset
        return str(specs[0].get("source") or self.dataset)

    @cached_property
    def done(self) -> list[Run]:
        """The runs that have scores."""
        return [run for run in self.runs if run.done]

    @cached_property
    def sparse(self) -> frozenset[str]:
        """The rows of whose labelled images only a share of the glands is annotated."""
        return frozenset(entry.row for entry in self._entries if entry.spec["values"].get("labels.glands") is not None)

    def finished(self, row: str, ratio: int) -> list[Run]:
        """The runs of a cell that have scores, in order of their draws."""
        return [run for run in self.done if run.row == row and run.spec["ratio"] == ratio]

    def in_draws_of(self, other: Group) -> Group:
        """This group without the draws that the other lacks of a row and ratio, if it has any of it."""
        theirs = {run.cell + run.draw for run in other.done}
        cells = {run.cell for run in other.done}
        kept = tuple(run for run in self.runs if run.cell + run.draw in theirs or run.cell not in cells)
        return self if len(kept) == len(self.runs) else replace(self, runs=kept)

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """In the experiment's order, else in that of the alphabet."""
        return tuple(dict.fromkeys([*(entry.row for entry in self.expected), *sorted({run.row for run in self.runs})]))

    @cached_property
    def ratios(self) -> tuple[int, ...]:
        return tuple(sorted({entry.place["ratio"] for entry in self._entries}))

    @property
    def _entries(self) -> list[Run | ExpectedRun]:
        return [*self.expected, *self.runs]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A line a cell (row, ratio) that has draws: how many are `expected`, how many `finished`, and the `states` of
        the others. A whole cell has as many draws as the experiment asks for, or as any row has at its ratio."""
        draws: dict[tuple[str, int], set[tuple[int, int]]] = defaultdict(set)
        states: dict[tuple[str, int], set[str]] = defaultdict(set)
        for entry in self._entries:
            place = entry.place
            for row in (place["row"],) if self.expected else self.rows:
                draws[row, place["ratio"]].add((place["fold"], place["seed"]))
            lost = entry.missing if isinstance(entry, ExpectedRun) else "" if entry.done else entry.record["status"]
            states[place["row"], place["ratio"]] |= {str(lost)} - {""}
        known = [cell for cell in product(self.rows, self.ratios) if draws.get(cell)]
        finished = Counter((run.row, run.spec["ratio"]) for run in self.done)
        lines = [(len(draws[cell]), finished[cell], sorted(states[cell])) for cell in known]
        index = pd.MultiIndex.from_tuples(known, names=CELL)
        return pd.DataFrame(lines, index, ["expected", "finished", "states"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A line a finished run, protocol, metric and class ("" for all): `value`, a fraction, or pixels."""
        lines = []
        for run in self.done:
            for protocol, scores in run.scores.items():
                known = {("", key): value for key, value in scores.items() if not isinstance(value, str | dict)}
                for name, of_class in scores.get("classes", {}).items():
                    known |= {(name, key): value for key, value in of_class.items()}
                place = {**run.place, "protocol": protocol}
                lines += [{**place, "metric": key, "class": name, "value": v} for (name, key), v in known.items()]
        columns = [*CELL, *DRAW, "run_id", "protocol", "metric", "class", "value"]
        return pd.DataFrame(lines, columns=columns).astype({"value": float})

    def draw_scores(self, metric: str) -> dict[str, dict[Any, list[float]]]:
        """{protocol: {(row, ratio): the scores of its draws in percent}}, of cells that have one."""
        found = self.scores[(self.scores.metric == metric) & (self.scores["class"] == "")].dropna()
        percent = found.assign(value=100 * found.value)
        return {p: percent[percent.protocol == p].groupby(CELL).value.agg(list).to_dict() for p in protocols.PROTOCOLS}

    @cached_property
    def images(self) -> pd.DataFrame:
        """A line a finished run and test image: strict `dice` and `jaccard`, its `unit` (the patient as splits know
        it, else the image), and what the counts know of it (grade, set ...; missing where a run does not know it)."""
        frames = [pd.DataFrame(columns=[*CELL, *DRAW, "run_id", "image", "unit", *METRICS])] if not self.done else []
        for run in self.done:
            images = run.counts["test_ids"].astype(str)
            groups = {key.removeprefix(SUBSET): of.astype(str) for key, of in run.counts.items()
                      if key.startswith(SUBSET)}  # fmt: skip
            alone = [f"image {name}" for name in images]
            owners = patients(alone, {key: of.tolist() for key, of in groups.items()})
            units = [who if who == image else f"patient {who}" for who, image in zip(owners, alone, strict=True)]
            scores = {metric: protocols.per_image(run.counts, score) for metric, score in METRICS.items()}
            known = {key: np.where(of == "", UNKNOWN, of) for key, of in groups.items() if key not in OWN_COLUMNS}
            frames.append(pd.DataFrame({**run.place, "image": images, "unit": units, **scores, **known}))
        return pd.concat(frames, ignore_index=True)

    @property
    def subsets(self) -> list[str]:
        """What is known of the test images, in order of the alphabet; but for patients, and slides, whose numbers count
        within their patient."""
        return sorted(set(self.images) - {*OWN_COLUMNS, "patient", "slide"})

    @cached_property
    def _by_image(self) -> dict[tuple[str, str, int], pd.DataFrame]:
        """{(metric, row, ratio): strict scores, (unit, image) x (fold, seed)}; of several records their mean."""
        if not self.done:
            return {}
        table = self.images.pivot_table(list(METRICS), ["unit", "image"], [*CELL, *DRAW])
        return {cell: table[cell].dropna(how="all") for cell in table.columns.droplevel(DRAW).unique()}

    def by_image(self, row: str, ratio: int, metric: str = "dice") -> pd.DataFrame:
        """A cell's strict scores as fractions: test images (unit, image) x draws (fold, seed); empty without any."""
        if (metric, row, ratio) in self._by_image:
            return self._by_image[metric, row, ratio]
        empty = [pd.MultiIndex.from_arrays([[], []], names=names) for names in (["unit", "image"], DRAW)]
        return pd.DataFrame(index=empty[0], columns=empty[1], dtype=float)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A line a protocol, metric, row and ratio: `mean` and `sd` (ddof 1) over its `n` draws, beside the columns of
        `cells`; of strict Dice and Jaccard also the 95 % interval (`low`, `high`) over so many `units`."""
        keys = ["protocol", "metric", *CELL]
        found = self.scores[self.scores["class"] == ""].dropna().groupby(keys).value
        every = pd.concat({(protocol, metric): self.cells for protocol in protocols.PROTOCOLS
                           for metric in (*METRICS, *(STRICT_METRICS if protocol == "strict" else ()))}, names=keys[:2])
        table = every.join(found.agg(mean="mean", sd="std", n="count")).astype({"n": "Int64"}).fillna({"n": 0})
        bounds = [
            ("strict", metric, row, ratio, *interval[1:]) for metric in METRICS for row, ratio in self.cells.index
            if (interval := stats.interval(self.by_image(row, ratio, metric).mean(axis=1)))
        ]
        return table.join(pd.DataFrame(bounds, columns=[*keys, "low", "high", "units"]).set_index(keys)).reset_index()

    def cell_scores(self, protocol: str = "strict", metric: str = "dice", factor: float = 100) -> pd.DataFrame:
        """The lines of `summary` for one protocol and metric by (row, ratio); in percent, or times another factor."""
        found = self.summary[(self.summary.protocol == protocol) & (self.summary.metric == metric)].set_index(CELL)
        found[["mean", "sd", "low", "high"]] *= factor
        return found

    @cached_property
    def costs(self) -> pd.DataFrame:
        """A line a finished run: its device and its costs."""
        return pd.DataFrame([{**run.place, "device": run.device, **run.costs} for run in self.done])

    @cached_property
    def stages(self) -> pd.DataFrame:
        """A line a finished run with a waterfall: its Dice as a fraction at every stage, and under `validation`."""
        lines = [
            (run.row, run.spec["ratio"], *stages.values(), run.scores["validation"]["dice"])
            for run in self.done if (stages := protocols.waterfall(run.counts))
        ]
        columns = [*CELL, *protocols.STAGES, "validation"]
        return pd.DataFrame(lines, columns=columns).astype({"validation": float})

    @cached_property
    def history(self) -> pd.DataFrame:
        """A line a finished run, step and logged name: its value."""
        lines = [
            {**run.place, "step": entry["step"], "name": name, "value": value}
            for run in self.done for entry in run.record["history"] for name, value in entry.items() if name != "step"
        ]
        columns = [*CELL, *DRAW, "run_id", "step", "name", "value"]
        return pd.DataFrame(lines, columns=columns).astype({"value": float}).dropna()

    def labels(self, ratio: int) -> str:
        """A label ratio in words."""
        return f"{ratio} % of the {'images labelled' if self.sparse else 'labels'}"

    def ratio_header(self, ratio: int) -> str:
        """e.g. `10 % (9+76)`: labelled and unlabelled images, where all runs agree about them."""
        known = [run.record["data"] for run in self.runs if run.spec["ratio"] == ratio]
        sizes = {(data.get("labelled"), data.get("unlabelled")) for data in known}
        labelled, unlabelled = sizes.pop() if len(sizes) == 1 else (None, None)
        return f"{ratio} %" + (f" ({labelled}+{unlabelled})" if labelled is not None else "")
