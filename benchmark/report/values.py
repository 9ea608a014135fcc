"""All scores of a group as a long table for a program: one line a cell, protocol and metric; never formatted."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmark.protocols import PROTOCOLS
from benchmark.report import stats
from benchmark.report.cells import Group

COLUMNS = (
    "row", "method", "dataset", "split", "preset", "ratio", "labelled", "unlabelled", "protocol", "metric", "unit",
    "n", "wanted", "mean", "sd", "low", "high", "resampled_units",
)  # fmt: skip
STRICT_ONLY = {
    "object_f1": "fraction", "object_dice": "fraction", "object_hausdorff": "pixels", "hd95": "pixels", "asd": "pixels",
}


def values(group: Group) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation (ddof 1) over draws; under `strict` also the 95 % interval of Dice and Jaccard."""
    for label in group.labels:
        for ratio in group.ratios:
            if runs := group.finished(label, ratio):
                data = runs[0].record["data"]
                place = {
                    "row": label, "method": runs[0].spec["method"], "dataset": group.dataset, "split": group.split,
                    "preset": runs[0].spec["preset"], "ratio": ratio, "labelled": data.get("labelled"),
                    "unlabelled": data.get("unlabelled"), "wanted": group.draws(label, ratio),
                }  # fmt: skip
                for protocol in PROTOCOLS:
                    units = {"dice": "fraction", "jaccard": "fraction"} | (STRICT_ONLY if protocol == "strict" else {})
                    for metric, unit in units.items():
                        known = [run.scores[protocol].get(metric) for run in runs]
                        found = stats.summary(value for value in known if value is not None)
                        if found.n:
                            spread = {"n": found.n, "mean": found.mean, "sd": found.sd}
                            bounds = None
                            if protocol == "strict" and metric in ("dice", "jaccard"):
                                bounds = stats.interval(group.images(label, ratio, metric))
                            if bounds:
                                spread |= {"low": bounds.low, "high": bounds.high, "resampled_units": bounds.units}
                            yield place | {"protocol": protocol, "metric": metric, "unit": unit} | spread


def comma_separated(groups: Sequence[Group]) -> str:
    """The values of all groups; what is not defined is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for group in groups:
        for entry in values(group):
            writer.writerow({key: _shown(value) for key, value in entry.items()})
    return stream.getvalue()


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return value
