"""mDice and mIoU over background and classes, in files of their own: they are never beside scores without it."""

from __future__ import annotations

import pandas as pd

from benchmark import protocols
from benchmark.report.render import Table
from benchmark.report.results_frame import CELL, Group
from benchmark.report.tables import OVER_DRAWS, by_value

VIEW = "class_means"  # what `report --protocol` calls it
HEADS = ("mDice, with background", "mIoU, with background", "pooled mDice, with background",
         "pooled mIoU, with background")  # in order of protocols.CLASS_MEANS


def scores(group: Group) -> pd.Series:
    """Fractions by row, ratio, run and name; without those that a run did not count."""
    names = [*CELL, "run_id", "metric"]
    found = {(*(run.place[key] for key in names[:3]), name): value
             for run in group.done for name, value in protocols.class_means(run.counts).items()}  # fmt: skip
    index = pd.MultiIndex.from_tuples(found, names=names) if found else pd.MultiIndex.from_arrays([[]] * 4, names=names)
    return pd.Series(list(found.values()), index, dtype=float).dropna()


def table(group: Group) -> Table:
    """A line a cell, a column a measure, in percent."""
    caption = (
        "Not comparable with Dice and Jaccard of other tables: the background counts here as a class like any other. "
        "Last step, argmax, native size; mean over classes, then over test images (a class that is neither in an image "
        f"nor predicted is left out there), or over classes of all test pixels pooled. Percent; {OVER_DRAWS}"
    )
    rows = by_value(group, scores(group), protocols.CLASS_MEANS)
    return Table("Means over background and classes", caption, ["method", "labels", *HEADS], rows)


def comma_separated(group: Group, records: str) -> str:
    """A line a cell and measure, as fractions: mean and sd (ddof 1) over n draws. records: which they were."""
    found = scores(group).groupby([*CELL, "metric"], sort=False).agg(mean="mean", sd="std", n="count").reset_index()
    found = found.assign(dataset=group.dataset, split=group.split, records=records)
    return found.to_csv(index=False, float_format="%.6f", lineterminator="\n")
