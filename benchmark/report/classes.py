"""Of several classes: a score for each of them, by method and label ratio."""

from __future__ import annotations

from benchmark.report import stats
from benchmark.report.cells import Group
from benchmark.report.table import NOTHING, Table
from benchmark.report.tables import spread


def classes_of(group: Group) -> list[str]:
    """The classes but the background, in their order; empty where there are only two."""
    return list(dict.fromkeys(str(name) for run in group.runs if run.done for name in run.counts.get("classes", ())))


def class_table(group: Group, metric: str = "dice") -> Table | None:
    """Each class against the rest under `strict`; None of two classes."""
    names = classes_of(group)
    if not names:
        return None
    rows = []
    for label in group.labels:
        for ratio in group.ratios:
            runs, wanted = group.finished(label, ratio), group.draws(label, ratio)
            if runs:
                found = [values(group, label, ratio, name, metric) for name in names]
                rows.append([label, f"{ratio} %", *(_cell(each, wanted) for each in found)])
    caption = (
        f"{metric.capitalize()} in percent of each class against the rest, under strict: mean over the test images "
        "where the class is there or predicted, then mean ± sd (ddof 1) over draws, n draws, or (k/n) where only k of "
        "n have a score there. The tables above average an image over its classes first."
    )
    return Table(f"{metric.capitalize()} by class, strict", caption, ["method", "labels", *names], rows)


def values(group: Group, label: str, ratio: int, name: str, metric: str) -> stats.Summary:
    """A class's score over the draws of a cell, in percent."""
    known = [run.scores["strict"].get("classes", {}).get(name, {}).get(metric) for run in group.finished(label, ratio)]
    return stats.summary(100 * value for value in known if value is not None)


def _cell(found: stats.Summary, wanted: int) -> str:
    if not found.n:
        return f"{NOTHING} (0/{wanted})"
    return f"{spread(found)} ({found.n}/{wanted})" if found.n < wanted else f"{spread(found)} (n={found.n})"
