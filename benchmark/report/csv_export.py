"""All scores of a group as a long table for a program: one line a cell, protocol and metric, as fractions."""

from __future__ import annotations

import pandas as pd

from benchmark.registry import portable
from benchmark.report.results_frame import CELL, METRICS, PIXELS, Group

COLUMNS = (
    "row", "method", "dataset", "split", "preset", "ratio", "labelled", "unlabelled", "protocol", "metric", "unit",
    "n", "wanted", "mean", "sd", "low", "high", "resampled_units", "status", "devices", "engines", "records",
)  # fmt: skip


def comma_separated(group: Group, records: str) -> str:
    """The group's summary with a header; what is not defined is empty. `records`: what tells the records from others.

    A cell without any score is one line for Dice and Jaccard of each protocol, with n = 0 and what became of its runs.
    """
    table = group.summary.join(_facts(group), on=CELL)
    table = table[(table.n > 0) | table.metric.isin(METRICS)]
    table = table.assign(
        dataset=group.dataset, split=group.split, records=records, wanted=table.expected,
        status=table.states.str.join("; "),
        unit=table.metric.isin(PIXELS).map({True: "pixels", False: "fraction"}),
        resampled_units=table.units.astype("Int64"),
    )  # fmt: skip
    order = {cell: number for number, cell in enumerate(group.cells.index)}
    place = pd.Series([order[cell] for cell in zip(table.row, table.ratio, strict=True)], table.index)
    table = table.loc[place.sort_values(kind="stable").index, list(COLUMNS)]
    return table.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _facts(group: Group) -> pd.DataFrame:
    """What all lines of a cell share, by (row, ratio)."""
    lines = {}
    for place in group.cells.index:
        runs = [run for run in group.runs if (run.row, run.spec["ratio"]) == place]
        specs = [run.spec for run in runs]
        specs += [entry.spec for entry in group.expected if (entry.row, entry.spec["ratio"]) == place]
        data, done = (runs[0].record["data"] if runs else {}), [run for run in runs if run.done]
        lines[place] = {
            "method": portable(specs[0]["method"]) if specs else "", "preset": (specs or [{"preset": ""}])[0]["preset"],
            "labelled": data.get("labelled"), "unlabelled": data.get("unlabelled"),
            "devices": "; ".join(sorted({run.device for run in done})),
            "engines": "; ".join(sorted({str(run.record["numerics"].get("engine")) for run in done})),
        }
    return pd.DataFrame(lines.values(), group.cells.index).astype({"labelled": "Int64", "unlabelled": "Int64"})
