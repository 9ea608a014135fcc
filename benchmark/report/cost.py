"""What the runs cost. Times of two devices never stand in one table."""

from __future__ import annotations

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
    "images_per_second": ("labelled images a second", lambda value: f"{value:,.1f}"),
    "wall_seconds": ("seconds a run", lambda value: f"{value:,.1f}"),
}


def cost_tables(group: Group) -> list[Table]:
    """One table for each device, in order of their names: medians over the finished runs of a cell."""
    devices = sorted({device_of(run) for run in group.runs if run.done})
    tables = []
    for device in devices:
        rows = []
        for label in group.labels:
            for ratio in group.ratios:
                runs = [run for run in group.finished(label, ratio) if device_of(run) == device]
                if runs:
                    cells = [_median([costs(run).get(key) for run in runs], show) for key, (_, show) in COLUMNS.items()]
                    rows.append([label, f"{ratio} %", *cells, str(len(runs))])
        caption = f"On {device}: medians over the finished runs of a cell; {NOTHING} where the device cannot tell."
        header = ["method", "labels", *(title for title, _ in COLUMNS.values()), "runs"]
        tables.append(Table("Cost", caption, header, rows))
    return tables


def device_of(run: Run) -> str:
    """The model of the device that a run was made on."""
    return str(run.record["environment"].get("device") or "a device without a name")


def costs(run: Run) -> dict[str, Any]:
    """A record's costs, and the labelled images a second that follow from them: all methods see as many a step."""
    cost, batch = dict(run.record["cost"]), run.spec["values"].get("train.batch_labelled")
    if cost.get("seconds_per_step") and batch:
        cost["images_per_second"] = batch / cost["seconds_per_step"]
    return cost


def _median(values: list[Any], show: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return show(median(known)) if known else NOTHING
