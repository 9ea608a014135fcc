"""All scores of a group as a long table for a program: one line a cell, protocol and metric, as fractions."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

from benchmark.plugins import portable
from benchmark.protocols import PROTOCOLS
from benchmark.report import stats
from benchmark.report.cells import Group, Run
from benchmark.report.cost import device_of
from benchmark.report.tables import states

COLUMNS = (
    "row", "method", "dataset", "split", "preset", "ratio", "labelled", "unlabelled", "protocol", "metric", "unit",
    "n", "wanted", "mean", "sd", "low", "high", "resampled_units", "status", "devices", "engines", "records",
)  # fmt: skip
PIXELS = ("object_hausdorff", "hd95", "asd")
STRICT_ONLY = ("object_f1", "object_dice", *PIXELS)


def values(group: Group) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation (ddof 1) over draws; under `strict` also the 95 % interval of Dice and Jaccard.

    A cell without any score is one line for Dice and Jaccard of each protocol, with n = 0 and what became of its runs.
    """
    for label in group.labels:
        for ratio in group.ratios:
            if not group.draws(label, ratio):
                continue
            runs, place = group.finished(label, ratio), _place(group, label, ratio)
            for protocol in PROTOCOLS:
                for metric in ("dice", "jaccard", *(STRICT_ONLY if protocol == "strict" else ())):
                    known = [run.scores[protocol].get(metric) for run in runs]
                    found = stats.summary(value for value in known if value is not None)
                    if found.n or metric not in STRICT_ONLY:
                        unit = "pixels" if metric in PIXELS else "fraction"
                        entry = {"protocol": protocol, "metric": metric, "unit": unit, "n": found.n}
                        yield place | entry | _spread(group, label, ratio, protocol, metric, found)


def _place(group: Group, label: str, ratio: int) -> dict[str, Any]:
    """What all lines of a cell share."""
    runs = group.cell(label, ratio)
    specs = [run.spec for run in runs] + [entry.spec for entry in group.lost(label, ratio)]
    data = runs[0].record["data"] if runs else {}
    return {
        "row": label, "method": portable(specs[0]["method"]) if specs else "",
        "dataset": group.dataset, "split": group.split,
        "preset": specs[0]["preset"] if specs else group.preset, "ratio": ratio, "labelled": data.get("labelled"),
        "unlabelled": data.get("unlabelled"), "wanted": group.draws(label, ratio),
        "status": "; ".join(states(group, label, ratio)), "devices": _all(runs, device_of),
        "engines": _all(runs, lambda run: run.record["numerics"].get("engine")),
    }  # fmt: skip


def _spread(
    group: Group, label: str, ratio: int, protocol: str, metric: str, found: stats.Summary
) -> dict[str, Any]:
    if not found.n:
        return {}
    spread: dict[str, Any] = {"mean": found.mean, "sd": found.sd}
    if protocol == "strict" and metric in ("dice", "jaccard"):
        bounds = stats.interval(group.images(label, ratio, metric))
        if bounds:
            spread |= {"low": bounds.low, "high": bounds.high, "resampled_units": bounds.units}
    return spread


def comma_separated(group: Group, records: str) -> str:
    """The values with a header; what is not defined is empty. `records`: what tells the records apart from others."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for entry in values(group):
        writer.writerow({key: _shown(value) for key, value in (entry | {"records": records}).items()})
    return stream.getvalue()


def _all(runs: list[Run], what: Any) -> str:
    return "; ".join(sorted({str(what(run)) for run in runs if run.done}))


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return value
