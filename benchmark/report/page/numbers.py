"""The numbers of the page, ready for JSON: its script works with these, and its template starts from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.protocols import PROTOCOLS
from benchmark.report import stats
from benchmark.report.cells import Group, Run
from benchmark.report.compare import best
from benchmark.report.cost import COLUMNS
from benchmark.report.table import Strong
from benchmark.report.tables import MEANING, number, ratio_header, score_table

METRICS = ("dice", "jaccard")
PERCENT = ("dice", "jaccard", "object_f1", "object_dice")  # fractions, shown in percent; other scores as they are
STEP = 5  # the axis of the small bars ends at multiples of so many percent


def data(groups: Sequence[Group]) -> dict[str, Any]:
    """What the page's script works with, ready for JSON: scores of every cell, and every run with its circumstances."""
    environments: dict[str, int] = {}
    return {
        "protocols": dict(MEANING),
        "groups": [
            {
                "name": group.name,
                "dataset": group.dataset,
                "labels": list(group.labels),
                "ratios": list(group.ratios),
                "headers": [ratio_header(group, ratio) for ratio in group.ratios],
                "reference": group.reference,
                "scores": _scores(group),
                **_runs(group, environments),
            }
            for group in groups
        ],
        "environments": [json.loads(text) for text in environments],
    }


def _scores(group: Group) -> dict[str, Any]:
    """{metric: {axis, protocol: {caption, notes, cells [labels][ratios], extra rows}}}; axis in percent."""
    result: dict[str, Any] = {}
    for metric in METRICS:
        views: dict[str, Any] = {}
        for protocol in PROTOCOLS:
            table = score_table(group, protocol, metric, {
                ratio: best(group, ratio, protocol, metric) for ratio in group.ratios
            })  # fmt: skip
            written = {row[0]: row[1:] for row in table.rows}
            views[protocol] = {
                "caption": table.caption,
                "notes": list(table.notes),
                "cells": [
                    [_cell(group, label, ratio, protocol, metric, text)
                     for ratio, text in zip(group.ratios, written[label], strict=False)]
                    for label in group.labels
                ],
                "extra": [list(row) for row in table.rows if row[0] not in group.labels],
            }  # fmt: skip
        result[metric] = {"views": views, "axis": _placed([cell for view in views.values() for cell in _flat(view)])}
    return result


def _cell(group: Group, label: str, ratio: int, protocol: str, metric: str, written: str) -> dict[str, Any]:
    """One cell in percent; one without a score says what the written table says."""
    scores = [run.scores[protocol][metric] for run in group.finished(label, ratio)]
    values = [100 * score for score in scores if score is not None]
    found = stats.summary(values)
    if not found.n:
        return {"why": written}
    cell: dict[str, Any] = {
        "value": round(found.mean, 6),
        "mean": number(found.mean),
        "n": found.n,
        "of": max(group.draws(label, ratio), found.n),
        "draws": values,
    }
    if found.n > 1:
        cell["sd"] = number(found.sd)
    if isinstance(written, Strong):
        cell["best"] = True
    bounds = stats.interval(group.images(label, ratio, metric)) if protocol == "strict" else None
    if bounds:
        cell["bounds"] = [100 * bounds.low, 100 * bounds.high]
        cell["interval"] = f"[{number(100 * bounds.low)}, {number(100 * bounds.high)}]"
    return cell


def _placed(cells: Sequence[dict[str, Any]]) -> list[int]:
    """The axis that holds all cells, whatever the protocol, so that a switch shows how they move; adds their places."""
    scored = [cell for cell in cells if "value" in cell]
    points = [point for cell in scored for point in (*cell["draws"], *cell.get("bounds", ()))]
    if not points:
        return [0, 100]
    low, high = STEP * math.floor(min(points) / STEP), STEP * math.ceil(max(points) / STEP)
    low, high = (low, high) if high > low else (low - STEP, high)
    for cell in scored:
        cell["draws"] = [_share(value, low, high) for value in cell["draws"]]
        if "bounds" in cell:  # as distances from the left and the right end
            left, right = (_share(value, low, high) for value in cell.pop("bounds"))
            cell["line"] = [left, round(100 - right, 1)]
        cell["at"] = _share(cell["value"], low, high)
    return [low, high]


def _share(value: float, low: int, high: int) -> float:
    """Where a value lies on the axis, in percent of its length."""
    return round(100 * (value - low) / (high - low), 1)


def _flat(view: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [cell for row in view["cells"] for cell in row]


def _runs(group: Group, environments: dict[str, int]) -> dict[str, Any]:
    """All runs, compactly: settings that all share once, and every distinct rest, data and environment once."""
    values = [{key: json.dumps(value) for key, value in run.spec["values"].items()} for run in group.runs]
    common = dict(set.intersection(*(set(own.items()) for own in values))) if values else {}
    settings: dict[str, int] = {}
    lists: dict[str, int] = {}
    runs = []
    for run, own in zip(group.runs, values, strict=True):
        record = run.record
        rest = {key: value for key, value in own.items() if key not in common}
        entry = {
            "id": record["run_id"],
            "label": group.labels.index(run.label),
            "ratio": run.spec["ratio"],
            "fold": run.draw[0],
            "seed": run.draw[1],
            "preset": run.spec["preset"],
            "status": str(record["status"]),
            "reason": record.get("reason"),
            "command": record.get("command"),
            "scores": _run_scores(run) if run.done else None,
            "cost": _run_cost(run),
            "settings": _index(settings, rest),
            "data": _index(lists, record["data"]),
            "environment": _index(environments, record["environment"]),
            "numerics": _index(lists, record["numerics"]),
            "counts": record.get("counts_sha256"),
            "weights": record.get("weights_sha256"),
        }
        runs.append({key: value for key, value in entry.items() if value is not None})
    lost = [
        {
            "id": entry.run_id, "label": group.labels.index(entry.row), "ratio": entry.spec["ratio"],
            "fold": entry.draw[0], "seed": entry.draw[1], "preset": entry.spec["preset"],
            "status": entry.missing, "reason": entry.reason,
        }
        for entry in group.wanted if entry.missing
    ]  # fmt: skip
    return {
        "common": common,
        "settings": [json.loads(text) for text in settings],
        "facts": [json.loads(text) for text in lists],
        "runs": runs + lost,
    }


def _run_scores(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """(protocol, its scores as (name, text)); what is undefined is left out."""
    return [
        (protocol, [(key, _written(key, value)) for key, value in run.scores[protocol].items() if value is not None])
        for protocol in PROTOCOLS
    ]


def _written(key: str, value: Any) -> str:
    if key in PERCENT:
        return number(100 * value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _run_cost(run: Run) -> list[tuple[str, str]]:
    cost = run.record.get("cost") or {}
    return [(title, show(cost[key])) for key, (title, show) in COLUMNS.items() if cost.get(key) is not None]


def _index(known: dict[str, int], value: Any) -> int:
    return known.setdefault(json.dumps(value, sort_keys=True), len(known))
