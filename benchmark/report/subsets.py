"""The test images by what is known of them, such as the part of the test set or the grade: a score for each value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from benchmark.report import stats
from benchmark.report.cells import Group, Run
from benchmark.report.table import NOTHING, Table
from benchmark.report.tables import spread

PREFIX = "test_groups_"
VALUES = range(2, 7)  # one value tells nothing apart; more than six are no table
UNKNOWN = "unknown"


def subset_tables(group: Group, metric: str = "dice") -> list[Table]:
    """A table for everything (patients left out) by which the runs' counts group the test images, if into 2 to 6."""
    done = [run for run in group.runs if run.done]
    names = sorted({key.removeprefix(PREFIX) for run in done for key in run.counts if key.startswith(PREFIX)})
    tables = []
    for name in names:
        values = sorted({value for run in done for value in _values(run, name)})
        if name != "patient" and len(values) in VALUES:
            tables.append(_table(group, name, values, metric))
    return tables


def _table(group: Group, name: str, values: Sequence[str], metric: str) -> Table:
    rows, undefined = [], 0
    for label in group.labels:
        for ratio in group.ratios:
            runs, wanted = group.finished(label, ratio), group.draws(label, ratio)
            if runs:
                rows.append([label, f"{ratio} %", *(_cell(runs, wanted, name, value, metric) for value in values)])
    for run in group.runs:
        if run.done and PREFIX + name in run.counts:
            undefined += int(np.isnan(run.per_image(metric)[2]).sum())
    caption = (
        f"{metric.capitalize()} in percent of the test images with each value of {name}, under strict: mean over these "
        "images, then mean ± sd (ddof 1) over draws, n draws, or (k/n) where only k of n have a score there."
    )
    header = ["method", "labels", *(f"{value} ({_images(group, name, value)})" for value in values)]
    notes = [f"{undefined} scores of single images are undefined (nothing there, nothing predicted), left out."]
    return Table(f"{metric.capitalize()} by {name}, strict", caption, header, rows, notes if undefined else ())


def _cell(runs: Iterable[Run], wanted: int, name: str, value: str, metric: str) -> str:
    """Mean ± sd over those of the draws that have a score there, and how many they are."""
    means = []
    for run in runs:
        chosen = np.array([found == value for found in _values(run, name)], dtype=bool)
        scores = run.per_image(metric)[2][chosen] if chosen.size else np.array([])
        means.append(100 * stats.summary(scores.tolist()).mean)
    found = stats.summary(means)
    if not found.n:
        return f"{NOTHING} (0/{wanted})"
    return f"{spread(found)} ({found.n}/{wanted})" if found.n < wanted else f"{spread(found)} (n={found.n})"


def _images(group: Group, name: str, value: str) -> str:
    """How many test images have the value; where draws have test images of their own, from the fewest to the most."""
    numbers = [Counter(values)[value] for run in group.runs if run.done and (values := _values(run, name))]
    low, high = min(numbers), max(numbers)
    return "1 image" if low == high == 1 else f"{low} images" if low == high else f"{low} to {high} images"


def _values(run: Run, name: str) -> list[str]:
    """The value of every test image; empty for a run whose counts do not have it."""
    known = run.counts.get(PREFIX + name)
    return [] if known is None else [str(value) or UNKNOWN for value in known]
