"""What the runs cost. Times of two devices never stand in one table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmark.report.cells import Group, Run
from benchmark.report.table import NOTHING, Table

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters_trained": ("parameters trained", lambda value: f"{value:,.0f}"),
    "parameters_inference": ("at inference", lambda value: f"{value:,.0f}"),
    "flops_per_step": ("GFLOPs a step", lambda value: f"{value / 1e9:,.1f}"),
    "peak_memory_bytes": ("peak memory (GiB)", lambda value: f"{value / 2**30:.2f}"),
    "seconds_per_step": ("seconds a step", lambda value: f"{value:.4f}"),
    "wall_seconds": ("seconds a run", lambda value: f"{value:,.1f}"),
}


def cost_tables(group: Group) -> list[Table]:
    """One table for each device, in order of their names: medians over all finished runs of a method."""
    by_device: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in group.runs:
        if run.done:
            device = str(run.record["environment"].get("device") or "a device without a name")
            by_device[device][run.label].append(run)
    tables = []
    for device, rows_of in sorted(by_device.items()):
        rows = []
        for label, runs in sorted(rows_of.items()):
            costs = [run.record["cost"] for run in runs]
            cells = [_median([cost.get(key) for cost in costs], show) for key, (_, show) in COLUMNS.items()]
            rows.append([label, *cells, str(len(runs))])
        caption = f"On {device}: medians over all finished runs of a method; {NOTHING} where the device cannot tell."
        tables.append(Table("Cost", caption, ["method", *(title for title, _ in COLUMNS.values()), "runs"], rows))
    return tables


def _median(values: list[Any], show: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return show(median(known)) if known else NOTHING
