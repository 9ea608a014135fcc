"""The page: one HTML file with every table, picture and run of a report; it opens from disk and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmark.files import write_text
from benchmark.protocols import MEANING, PROTOCOLS
from benchmark.registry import portable
from benchmark.report.gather import warnings_of
from benchmark.report.image_selection import Shown, images_shareable, local_folder, select_images, thumbnails
from benchmark.report.render import Bold, Table, between, number, part
from benchmark.report.results_frame import METRICS, Group, Run
from benchmark.report.tables import COSTS, score_table

PARTS = Path(__file__).parent
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
PERCENT = (*METRICS, "object_f1", "object_dice")  # fractions, shown in percent; other scores as they are
SENTENCE = 36  # characters; a longer cell is no number with its spread and interval
STEP = 5  # the axis of the small bars ends at multiples of so many percent
logger = logging.getLogger(__name__)


def publish(
    groups: Sequence[Group], tables: Mapping[str, Sequence[Table]], results: Path, provenance: str
) -> list[Path]:
    """Write `results/pages/<name>.html` and, for data whose pictures may not be shared, `pages/local/<name>.html`: it
    keeps itself out of version control, and alone has the pictures."""
    page = page_of(groups, results)
    public: dict[str, list[dict[str, Any]]] = {}
    private: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        selection, reason = select_images(group, results)
        if selection is None:
            logger.info(f"{group.name}: no pictures on the page, {reason}")
            continue
        place = {"ratio": selection.ratio, "draw": "fold {}, seed {}".format(*selection.draw)}
        pictures = [_picture(shown, selection.names) | place for shown in selection.images]
        (public if images_shareable(group.source) else private)[group.name] = pictures
    write_text(page, render(groups, tables, public, provenance))
    if not private:
        return [page]
    local = local_folder(page.parent) / page.name
    write_text(local, render(groups, tables, public | private, provenance))
    return [page, local]


def page_of(groups: Sequence[Group], results: Path) -> Path:
    """Where the page of these groups is: called like the only one, or like what their names have in common."""
    names = sorted({group.name if len(groups) == 1 else group.name.split("-")[0] for group in groups})
    return results / "pages" / f"{'-'.join(names)}.html"


def render(
    groups: Sequence[Group], tables: Mapping[str, Sequence[Table]], pictures: Mapping[str, Sequence[Mapping[str, Any]]],
    provenance: str,
) -> str:
    """The whole page as HTML; `tables` and `pictures` by name of group. Score tables are skipped: the page has its own.

    The same arguments give the same text. The page's own policy forbids it any request, and any script but its own.
    """
    found = data(groups, provenance)
    for group, entry in zip(groups, found["groups"], strict=True):
        found_there = pictures.get(group.name, ())  # their own pixels stand in the gallery
        entry["pictures"] = [{key: value for key, value in shown.items() if key != "image"} for shown in found_there]
    script = '"use strict";\n(() => {\n' + (PARTS / "page.js").read_text(encoding="utf-8") + "})();"
    environment = Environment(
        loader=FileSystemLoader(PARTS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = lambda text: Markup("<wbr>").join(re.split(r"(?<=[_=+.])(?=.)", str(text)))
    environment.tests["bold"] = lambda text: isinstance(text, Bold)
    text = environment.get_template("page.html.j2").render(
        groups=[
            (group, entry, warnings_of(group), _others(tables.get(group.name, ())), pictures.get(group.name, ()))
            for group, entry in zip(groups, found["groups"], strict=True)
        ],
        datasets=list(dict.fromkeys(group.dataset for group in groups)),
        ratios=sorted({ratio for group in groups for ratio in group.ratios}),
        counted=_counted(groups),
        protocols=MEANING,
        metrics=METRICS,
        provenance=provenance,
        several=any("classes" in run.counts for group in groups for run in group.done),
        style=Markup((PARTS / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_as_json(found).replace("<", "\\u003c")),
    )
    return text.rstrip() + "\n"


def current(text: str, groups: Sequence[Group], provenance: str) -> bool:
    """Whether a page's data are those of these groups and this provenance, to the last digit; its pictures may differ.

    Nothing is rendered for it. What is no page, or one without data, is not current.
    """
    block = DATA.search(text)
    try:
        found = json.loads(block[1]) if block else None
        for entry in found["groups"] if isinstance(found, dict) else ():
            entry.pop("pictures")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return block is not None and _as_json(found) == _as_json(data(groups, provenance))


def data(groups: Sequence[Group], provenance: str = "") -> dict[str, Any]:
    """What the page's script works with, ready for JSON: scores of every cell, and every run with its circumstances.

    What runs have in common (settings, data, environments) stands once, and is referred to by its place.
    """
    shared: dict[str, int] = {}
    entries = [
        {
            "name": group.name, "dataset": group.dataset, "rows": [group.display(row) for row in group.rows],
            "ratios": list(group.ratios), "headers": [group.ratio_header(ratio) for ratio in group.ratios],
            "reference": group.display(group.reference) if group.reference else None,
            "scores": {metric: _scores(group, metric) for metric in METRICS}, **_runs(group, shared),
        }
        for group in groups
    ]  # fmt: skip
    return {"groups": entries, "shared": [json.loads(text) for text in shared], "provenance": provenance}


def _scores(group: Group, metric: str) -> dict[str, Any]:
    """{axis, views: {protocol: {caption, notes, cells, extra rows}}}; cells [rows][ratios] of (value, HTML).

    The axis in percent holds all cells, whatever the protocol, so that a switch shows how they move.
    """
    draws = group.draw_scores(metric)
    summary = {protocol: group.cell_scores(protocol, metric) for protocol in PROTOCOLS}
    bounds = summary["strict"][["low", "high"]].dropna().to_numpy().ravel().tolist()
    points = [*(point for cells in draws.values() for values in cells.values() for point in values), *bounds]
    low, high = (STEP * math.floor(min(points) / STEP), STEP * math.ceil(max(points) / STEP)) if points else (0, 100)
    low = low if high > low else low - STEP
    views = {}
    for protocol, cells in summary.items():
        table = score_table(group, protocol, metric)
        views[protocol] = {
            "caption": table.caption, "notes": list(table.notes),
            "cells": [
                [_cell(cells, draws[protocol], (row, ratio), text, low, high)
                 for ratio, text in zip(group.ratios, line[1:], strict=True)]
                for row, line in zip(group.rows, table.rows, strict=False)
            ],
            "extra": [list(row) for row in table.rows[len(group.rows) :]],
        }  # fmt: skip
    return {"views": views, "axis": [low, high]}


def _cell(
    cells: pd.DataFrame, draws: Mapping[Any, Sequence[float]], place: tuple[str, int], text: str, low: int, high: int
) -> tuple[float | None, str]:
    """Value and HTML: mean ± sd, n and interval, and a bar: a dot, the interval, thin marks for single draws. A cell
    without a score is what the table says."""

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 1)

    if place not in draws:
        return None, str(Markup('<span class="none">{}</span>').format(text))
    found = cells.loc[place]
    mean, lacking = number(found["mean"]), part(found.n, found.expected)
    mean = f"<strong>{mean}</strong>" if isinstance(text, Bold) else mean
    sd = f'<span class="sd"> ± {number(found.sd)}</span>' if found.n > 1 else ""
    n = f'<span class="part">{lacking}</span>' if lacking else f"n={found.n}"
    marks = [f'<i class="draw" style="left:{at(value)}%"></i>' for value in draws[place]]
    if between(found):
        left, right = at(found.low), round(100 - at(found.high), 1)
        marks.append(f'<i class="whisker" style="left:{left}%;right:{right}%"></i>')
    return round(found["mean"], 6), (
        f'<span class="cell"><span class="figures"><span class="mean">{mean}</span>{sd}<br>'
        f'<span class="small">{n}{between(found)}</span></span><span class="bar" aria-hidden="true">'
        f'{"".join(marks)}<i class="dot" style="left:{at(found["mean"])}%"></i></span></span>'
    )


def _runs(group: Group, shared: dict[str, int]) -> dict[str, Any]:
    """All runs, compactly, and the settings that all have in common."""

    def index(value: Any) -> int:
        return shared.setdefault(json.dumps(value, sort_keys=True), len(shared))

    values = [{key: json.dumps(value) for key, value in run.spec["values"].items()} for run in group.runs]
    common = dict(set.intersection(*(set(own.items()) for own in values))) if values else {}
    runs = []
    for run, own in zip(group.runs, values, strict=True):
        record = run.record
        runs.append(run.place | {
            "preset": run.spec["preset"], "status": str(record["status"]), "reason": record.get("reason"),
            "command": record.get("command"), "scores": _run_scores(run) if run.done else None,
            "cost": [(COSTS[key][0], COSTS[key][1](run.costs[key])) for key in COSTS if run.costs.get(key) is not None],
            "settings": index({key: value for key, value in own.items() if key not in common}),
            "data": index(record["data"]), "environment": index(record["environment"]),
            "numerics": index(record["numerics"]), "counts": record.get("counts_sha256"),
            "weights": record.get("weights_sha256"),
        })  # fmt: skip
    runs += [
        {**entry.place, "run_id": entry.run_id, "preset": entry.spec["preset"], "status": entry.missing,
         "reason": entry.reason} for entry in group.expected if entry.missing
    ]  # fmt: skip
    compact = [{key: value for key, value in run.items() if value is not None} for run in runs]
    return {"common": common, "runs": [run | {"row": group.rows.index(run["row"])} for run in compact]}


def _run_scores(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """(protocol, its scores as text), in their order; what is undefined is left out."""

    def text(key: str, value: Any) -> str:
        return number(100 * value) if key in PERCENT else number(value) if isinstance(value, float) else str(value)

    return [(p, [(k, text(k, v)) for k, v in found.items() if v is not None]) for p, found in run.scores.items()]


def _picture(shown: Shown, names: Mapping[str, str]) -> dict[str, Any]:
    """A test image as JSON: PNG bytes in base64, an overlay and a Dice in percent for each row."""
    image, truth, overlays = thumbnails(shown)
    text = lambda png: base64.b64encode(png).decode()  # noqa: E731
    rows = [
        {"name": name, "dice": number(100 * shown.dice[row]), "overlay": text(overlays[row])}
        for row, name in names.items()
    ]
    return {"id": shown.id, "rule": shown.rule, "image": text(image), "truth": text(truth), "rows": rows}


def _others(tables: Sequence[Table]) -> list[tuple[Table, set[int]]]:
    """The tables beside the page's own, each with the columns that hold sentences and may wrap."""
    own = {f"{metric.capitalize()}, {protocol}" for metric in METRICS for protocol in PROTOCOLS}
    return [
        (table, {column for row in table.rows for column, cell in enumerate(row) if column and len(cell) > SENTENCE})
        for table in tables if table.rows and table.title not in own
    ]  # fmt: skip


def _counted(groups: Sequence[Group]) -> list[tuple[int, str, bool]]:
    """What there is: a number, its word, and whether it is a lack. A run that several groups show counts once."""
    runs = {run.record["run_id"]: run for group in groups for run in group.runs}
    expected = {entry.run_id: entry for group in groups for entry in group.expected}
    specs = [*(run.spec for run in runs.values()), *(entry.spec for entry in expected.values())]
    methods, datasets = {portable(spec["method"]) for spec in specs}, {group.dataset for group in groups}
    there = {"run": len(runs), "method": len(methods), "data set": len(datasets)}
    unscored, missing = sum(not r.done for r in runs.values()), sum(bool(e.missing) for e in expected.values())
    counted = [(n, word if n == 1 else f"{word}s", False) for word, n in there.items()]
    counted += [(unscored, "without a score", True), (missing, "without a record", True)]
    return [entry for entry in counted if entry[0]]


def _as_json(found: Any) -> str:
    return json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)
