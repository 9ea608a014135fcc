"""The page: one HTML file with every table, picture and run of a report; it opens from disk and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmark.files import write_text
from benchmark.protocols import MEANING, PROTOCOLS
from benchmark.registry import portable
from benchmark.report.gather import warnings_of
from benchmark.report.image_selection import Shown, images_shareable, local_folder, select_images, thumbnails
from benchmark.report.render import DASH, Bold, Table, between, number, part
from benchmark.report.results_frame import METRICS, Group, Run
from benchmark.report.sources import learned_from
from benchmark.report.tables import COSTS, score_table

PARTS = Path(__file__).parent
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
PERCENT = (*METRICS, "precision", "recall", "object_f1", "object_dice")  # fractions; other scores stay as they are
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
    parts = [group.name.split("-") for group in groups]
    common = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))]
    common = common or sorted({first for first, *_ in parts})
    return results / "pages" / f"{'-'.join(common)}.html"


def render(
    groups: Sequence[Group], tables: Mapping[str, Sequence[Table]], pictures: Mapping[str, Sequence[Mapping[str, Any]]],
    provenance: str,
) -> str:
    """The whole page as HTML; `tables` and `pictures` by name of group. Score tables are skipped: the page has its own.

    The same arguments give the same text. The page's own policy forbids it any request, and any script but its own.
    """
    found = data(groups, provenance)
    script = '"use strict";\n(() => {\n' + (PARTS / "page.js").read_text(encoding="utf-8") + "})();"
    environment = templates()
    environment.filters |= {
        "breakable": lambda text: Markup("<wbr>").join(re.split(r"(?<=[_=+.])(?=.)", str(text))),
        "ratio": lambda text: (re.match(r"(\d+) %(?! \w)", text) or {1: ""})[1],
    }
    environment.tests["bold"] = lambda text: isinstance(text, Bold)
    environment.globals |= {"number": number, "part": part, "between": between}
    text = environment.get_template("page.html.j2").render(
        groups=[
            {"group": group, "views": _views(group), "warnings": warnings_of(group), "learned": learned_from(group),
             "runs": _run_table(group, entry["runs"]), "tables": _others(tables.get(group.name, ())),
             "pictures": pictures.get(group.name, ())}
            for group, entry in zip(groups, found["groups"], strict=True)
        ],
        datasets=list(dict.fromkeys(group.dataset for group in groups)),
        ratios=sorted({ratio for group in groups for ratio in group.ratios}),
        counted=_counted(groups),
        protocols=MEANING,
        metrics=METRICS,
        provenance=provenance,
        several=any("classes" in run.counts for group in groups for run in group.done),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_as_json(found).replace("<", "\\u003c")),
    )  # fmt: skip
    return text.rstrip() + "\n"


def templates() -> Environment:
    """The templates in this folder; `style` is the style sheet of all pages."""
    found = Environment(
        loader=FileSystemLoader(PARTS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.globals["style"] = Markup((PARTS / "page.css").read_text(encoding="utf-8"))
    return found


def current(text: str, groups: Sequence[Group], provenance: str) -> bool:
    """Whether a page's runs are those of these groups and this provenance, to the last digit; its pictures may differ.

    Nothing is rendered for it. What is no page, or one without data, is not current.
    """
    block = DATA.search(text)
    return block is not None and block[1] == _as_json(data(groups, provenance)).replace("<", "\\u003c")


def data(groups: Sequence[Group], provenance: str = "") -> dict[str, Any]:
    """What the page's script works with, ready for JSON: every run with its circumstances.

    What runs have in common (settings, data, environments) stands once, and is referred to by its place.
    """
    shared: dict[str, int] = {}
    entries = [{"name": group.name, "runs": _runs(group, shared)} for group in groups]
    return {"groups": entries, "shared": [json.loads(text) for text in shared], "provenance": provenance}


def _views(group: Group) -> list[dict[str, Any]]:
    """A table of scores for every metric and protocol, its cells by (row, ratio), and the axis of the bars in percent.

    The axis holds all cells, whatever the protocol, so that a switch shows how they move.
    """
    views = []
    for metric in METRICS:
        draws = group.draw_scores(metric)
        bounds = group.cell_scores("strict", metric)[["low", "high"]].dropna().to_numpy().ravel().tolist()
        points = [*(point for cells in draws.values() for values in cells.values() for point in values), *bounds]
        points = points or [0, 100]
        low, high = STEP * math.floor(min(points) / STEP), STEP * math.ceil(max(points) / STEP)
        for protocol in PROTOCOLS:
            scored = group.cell_scores(protocol, metric).to_dict("index")
            cells = {place: scored[place] | {"draws": values} for place, values in draws[protocol].items()}
            table = score_table(group, protocol, metric)
            axis = low if high > low else low - STEP, high
            views.append({"protocol": protocol, "metric": metric, "table": table, "cells": cells, "axis": axis})
    return views


def _runs(group: Group, shared: dict[str, int]) -> list[dict[str, Any]]:
    """All runs, their circumstances and settings as titled blocks, each a place in `shared`; a run without a record has
    none."""

    def index(value: Any) -> int:
        return shared.setdefault(json.dumps(value, sort_keys=True), len(shared))

    values = [{key: json.dumps(value) for key, value in run.spec["values"].items()} for run in group.runs]
    common = dict(set.intersection(*(set(own.items()) for own in values))) if values else {}
    runs = []
    for run, own in zip(group.runs, values, strict=True):
        record, costs = run.record, run.costs
        blocks = _run_scores(run) | {
            "Cost": {COSTS[key][0]: COSTS[key][1](costs[key]) for key in COSTS if costs.get(key) is not None},
            "Environment": record["environment"], "Data": record["data"],
            "Identity": {
                "run": record["run_id"], "preset": run.spec["preset"], "counts": record.get("counts_sha256"),
                "weights": record.get("weights_sha256"), "versions of numbers": json.dumps(record["numerics"]),
            },
        }  # fmt: skip
        settings = {
            "Not the same in every run of this table": dict(set(own.items()) - set(common.items())),
            "The same in every run of this table": common,
        }
        runs.append(run.place | {
            "status": str(record["status"]), "reason": record.get("reason"), "command": record.get("command"),
            "blocks": [(title, index(block)) for title, block in blocks.items() if block],
            "settings": [(title, index(block)) for title, block in settings.items() if block],
        })  # fmt: skip
    runs += [
        entry.place | {"status": entry.missing, "reason": entry.reason, "command": None, "blocks": [], "settings": []}
        for entry in group.expected if entry.missing
    ]  # fmt: skip
    return [run | {"row": group.display(run["row"])} for run in runs]


def _run_scores(run: Run) -> dict[str, dict[str, str]]:
    """The scores of every protocol as text; what is undefined is left out."""

    def text(key: str, value: Any) -> str:
        return number(100 * value) if key in PERCENT else number(value) if isinstance(value, float) else str(value)

    return {
        f"Scores, {protocol}": {key: text(key, value) for key, value in found.items() if value is not None}
        for protocol, found in (run.scores.items() if run.done else ())
    }


def _run_table(group: Group, runs: Sequence[Mapping[str, Any]]) -> Table:
    scores = {run.record["run_id"]: run.scores["strict"]["dice"] for run in group.done}
    dice = {name: number(100 * score) for name, score in scores.items() if score is not None}
    header = ["method", "labels", "fold", "seed", "status", "strict Dice", "reason"]
    rows = [
        [run["row"], f"{run['ratio']} %", str(run["fold"]), str(run["seed"]), run["status"],
         dice.get(run.get("run_id", ""), DASH), textwrap.shorten(run["reason"] or "", 160, placeholder=" …")]
        for run in runs
    ]  # fmt: skip
    width = 7 if any(row[-1] for row in rows) else 6
    return Table("Runs", "", header[:width], [row[:width] for row in rows])


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
