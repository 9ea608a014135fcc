"""All scores, ranks and orders of a group as one CSV file."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmark.registry import portable
from benchmark.report import agreement, ranks
from benchmark.report.results_frame import CELL, METRICS, PIXELS, Group
from benchmark.report.sources import ANNOTATED, annotated

CSV_COLUMNS = (
    "row", "method", "dataset", "split", "preset", "ratio", "labelled", "unlabelled", "protocol", "metric", "unit",
    "n", "wanted", "mean", "sd", "low", "high", "resampled_units", "status", "devices", "engines", "records",
)  # fmt: skip


def comma_separated(group: Group, records: str, groups: Sequence[Group] = ()) -> str:
    """The group's summary, a line a cell, protocol and metric, as fractions; what is not defined is empty.

    A cell without any score is one line for Dice and Jaccard of each protocol, with n = 0 and what became of its runs.
    Below, the ranks under `strict`, shares of first places, and Kendall's tau of orders, whose n counts rows.
    records: what tells the records from others. groups: all of the experiment.
    """
    facts = _facts(group)
    table = group.summary.join(facts, on=CELL).sort_values("order", kind="stable")
    table = table[(table.n > 0) | table.metric.isin(METRICS)]
    table = table.assign(
        dataset=group.dataset, split=group.split, records=records, wanted=table.expected,
        status=table.states.str.join("; "), resampled_units=table.units.astype("Int64"),
        unit=table.metric.isin(PIXELS).map({True: "pixels", False: "fraction"}),
    )  # fmt: skip
    columns = [*CSV_COLUMNS, *(ANNOTATED if group.sparse else ())]
    text = table[columns].to_csv(index=False, float_format="%.6f", lineterminator="\n")
    ranked = pd.concat([ranks.as_frame(group), agreement.as_frame(group, groups)])
    if ranked.empty:
        return text
    ranked = ranked.join(facts, on=CELL).assign(split=group.split, records=records).reindex(columns=columns)
    return text + ranked.to_csv(index=False, header=False, float_format="%.6f", lineterminator="\n")


def _facts(group: Group) -> pd.DataFrame:
    """What all lines of a cell share, by (row, ratio), with the cell's place in the table."""
    lines = []
    for order, place in enumerate(group.cells.index):
        runs = [run for run in group.runs if (run.row, run.spec["ratio"]) == place]
        expected = [entry for entry in group.expected if (entry.row, entry.spec["ratio"]) == place]
        specs = [run.spec for run in runs] + [entry.spec for entry in expected] + [{"method": "", "preset": ""}]
        data, done = (runs[0].record["data"] if runs else {}), [run for run in runs if run.done]
        lines.append({
            "order": order, "method": portable(specs[0]["method"]), "preset": specs[0]["preset"],
            "labelled": data.get("labelled"), "unlabelled": data.get("unlabelled"),
            "devices": "; ".join(sorted({run.device for run in done})),
            "engines": "; ".join(sorted({str(run.record["numerics"].get("engine")) for run in done})),
        })  # fmt: skip
    facts = pd.DataFrame(lines, group.cells.index).astype({"labelled": "Int64", "unlabelled": "Int64"})
    return facts.join(annotated(group).groupby(CELL)[ANNOTATED].mean())
