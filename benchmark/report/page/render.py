"""From groups, tables and pictures to the text of the page."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.plugins import portable
from benchmark.protocols import PROTOCOLS
from benchmark.report.cells import Group
from benchmark.report.classes import classes_of
from benchmark.report.page.numbers import METRICS, data
from benchmark.report.table import Strong, Table
from benchmark.report.tables import MEANING, number
from benchmark.report.warnings import doubts

if TYPE_CHECKING:
    from benchmark.report.pictures import Picture

PARTS = Path(__file__).parent
SENTENCE = 36  # characters; a longer cell is no number with its spread and interval
SCRIPTS = ("common", "scores", "tables", "runs", "pictures", "start")  # one script, in this order


def render(
    groups: Sequence[Group],
    tables: Mapping[str, Sequence[Table]],
    pictures: Mapping[str, Sequence[Picture]],
    provenance: str,
) -> str:
    """The whole page as HTML; `tables` and `pictures` by name of group. Score tables are skipped: the page has its own.

    The same arguments give the same text. The page's own policy forbids it any request, and any script but its own.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    found = data(groups) | {"provenance": provenance}
    galleries = [[_picture(picture, group) for picture in pictures.get(group.name, ())] for group in groups]
    for entry, gallery in zip(found["groups"], galleries, strict=True):
        entry["pictures"] = [{key: value for key, value in shown.items() if key != "source"} for shown in gallery]
    script = "\n".join((PARTS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();'
    style = (PARTS / "page.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(PARTS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["strong"] = lambda cell: isinstance(cell, Strong)
    environment.filters["breakable"] = lambda text: Markup("<wbr>").join(re.split(r"(?<=[_=+.])(?=.)", str(text)))
    text = environment.get_template("page.html.j2").render(
        groups=[
            (group, entry, doubts(group), _others(tables.get(group.name, ())), gallery)
            for group, entry, gallery in zip(groups, found["groups"], galleries, strict=True)
        ],
        datasets=list(dict.fromkeys(group.dataset for group in groups)),
        ratios=sorted({ratio for group in groups for ratio in group.ratios}),
        counted=_counted(groups),
        protocols=MEANING,
        metrics=METRICS,
        provenance=provenance,
        several=any(map(classes_of, groups)),
        style=Markup(style),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_as_json(found).replace("<", "\\u003c")),
    )
    return text.rstrip() + "\n"


def current(text: str, groups: Sequence[Group], provenance: str) -> bool:
    """Whether a page's data are those of these groups and this provenance, to the last digit; its pictures may differ.

    Nothing is rendered for it. What is no page, or one without data, is not current.
    """
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    try:
        found = json.loads(block[1]) if block else None
        for entry in found["groups"] if isinstance(found, dict) else ():
            entry.pop("pictures")
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return block is not None and _as_json(found) == _as_json(data(groups) | {"provenance": provenance})


def _as_json(found: Any) -> str:
    return json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _others(tables: Iterable[Table]) -> list[tuple[Table, set[int]]]:
    """The tables beside the page's own, each with the columns that hold sentences and may wrap."""
    own = {f"{metric.capitalize()}, {protocol}" for metric in METRICS for protocol in PROTOCOLS}
    return [
        (table, {column for row in table.rows for column, cell in enumerate(row) if column and len(cell) > SENTENCE})
        for table in tables
        if table.rows and table.title not in own
    ]


def _picture(picture: Picture, group: Group) -> dict[str, Any]:
    """A picture as JSON, its rows in the table's order; PNG bytes in base64."""
    rows = [label for label in group.labels if label in picture.overlays]
    return {
        "id": picture.image_id,
        "rule": picture.rule,
        "ratio": picture.ratio,
        "draw": f"fold {picture.draw[0]}, seed {picture.draw[1]}",
        "source": _encoded(picture.image),
        "truth": _encoded(picture.truth),
        "rows": rows,
        "dice": [number(100 * picture.dice.get(label, math.nan)) for label in rows],
        "overlays": [_encoded(picture.overlays[label]) for label in rows],
    }


def _encoded(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _counted(groups: Sequence[Group]) -> list[tuple[int, str, bool]]:
    """What there is: a number, its word, and whether it is a lack. A run that several groups show counts once."""
    runs = {run.record["run_id"]: run for group in groups for run in group.runs}
    wanted = {entry.run_id: entry for group in groups for entry in group.wanted}
    specs = [*(run.spec for run in runs.values()), *(entry.spec for entry in wanted.values())]
    methods = {portable(spec["method"]) for spec in specs}
    datasets = {group.dataset for group in groups}
    numbers = [
        (len(runs), "run", False),
        (len(methods), "method", False),
        (len(datasets), "data set", False),
        (sum(not run.done for run in runs.values()), "without a score", True),
        (len([entry for entry in wanted.values() if entry.missing]), "without a record", True),
    ]
    return [(n, word if n == 1 or lack else f"{word}s", lack) for n, word, lack in numbers if n]
