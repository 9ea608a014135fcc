"""The page as text: its numbers against the tables', hostile names, what it asks for."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.report.cells import Group, Wanted, group_runs
from benchmark.report.compare import best
from benchmark.report.gap import gap_table, waterfall_table
from benchmark.report.page import current, data, render
from benchmark.report.pictures import FOUND, INVENTED, MISSED, Picture
from benchmark.report.table import Strong, Table
from benchmark.report.tables import failure_table, score_cell, score_table
from tests.test_compare import run
from tests.test_report import evidence, native, record

HOSTILE = '<script>alert("1")</script>\'&amp;<b>bold'
LABELS = ("alpha", "beta", HOSTILE)


def png(colour: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", (24, 16), colour).save(stream, "PNG")
    return stream.getvalue()


def picture(name: str, rule: str, ratio: int = 20, labels: tuple[str, ...] = LABELS) -> Picture:
    overlays = {label: png((0, 158, 115, 40 + 60 * place)) for place, label in enumerate(labels)}
    dice = {label: 0.5 + 0.1 * place for place, label in enumerate(labels)}
    return Picture(name, rule, ratio, dice, png((200, 90, 160)), overlays, png((0, 0, 0, 90)))


def made_groups() -> list[Group]:
    """Two data sets; rows with every kind of cell: whole, incomplete, failed, one run, none."""
    records = [
        record(name, ratio, fold, counts=evidence(10 * ratio + 3 * fold + place))
        for place, name in enumerate(("alpha", "beta"))
        for ratio in (10, 20)
        for fold in range(3)
    ]
    records += [record(HOSTILE, 20, 0, counts=evidence(5), command=HOSTILE, environment={"device": HOSTILE})]
    records += [record("beta", 20, 3, status="failed", reason=f"Traceback:\n{HOSTILE}"), record("gamma", 10, 0)]
    records += [record("delta", 10, fold, status="diverged", reason="'supervised' was nan") for fold in range(3)]
    other = [record(name, fold=fold, counts=evidence(fold), values={"method.x": fold}) for name in ("alpha", "beta")
             for fold in range(2)]  # fmt: skip
    for made, _ in other:
        made["spec"] = made["spec"] | {"dataset": "other"}
    return [replace(group, reference="alpha", about=f"About {HOSTILE}") for group in group_runs(records + other)]


def tables_of(group: Group) -> list[Table]:
    found = [score_table(group, "strict"), gap_table(group), waterfall_table(group), failure_table(group)]
    bold = Table(HOSTILE, HOSTILE, ["method", HOSTILE], [[HOSTILE, Strong(HOSTILE)], ["plain", "1"]], [HOSTILE])
    return [*(table for table in found if table), bold]


def whole() -> str:
    groups = made_groups()
    pictures = {
        groups[0].name: [picture("first", "median"), picture(HOSTILE, "worst decile"), picture("third", "", labels=())]
    }
    return render(groups, {group.name: tables_of(group) for group in groups}, pictures, f"made by {HOSTILE}\nand more")


class Reader(HTMLParser):
    """Elements, their attributes and the text of a page, as a browser without scripts sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, text: str) -> None:
        self.texts.append(text)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


def embedded(text: str) -> dict[str, Any]:
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def test_a_cell_says_what_the_table_says() -> None:
    compared = 0
    for group, entry in zip(made_groups(), data(made_groups())["groups"], strict=True):
        for metric in ("dice", "jaccard"):
            for protocol, view in entry["scores"][metric]["views"].items():
                table = score_table(group, protocol, metric)
                assert (view["caption"], view["notes"]) == (table.caption, list(table.notes))
                for label, row in zip(group.labels, view["cells"], strict=True):
                    for ratio, cell in zip(group.ratios, row, strict=True):
                        assert written(cell) == score_cell(group, label, ratio, protocol, metric)
                        compared += "value" in cell
    assert compared > 40


def written(cell: dict[str, Any]) -> str:
    """A cell of the page, in the words of the Markdown table."""
    if "value" not in cell:
        return cell["why"]
    spread = f" ± {cell['sd']}" if "sd" in cell else ""
    n = f"({cell['n']}/{cell['of']})" if cell["n"] < cell["of"] else f"(n={cell['n']})"
    return f"{cell['mean']}{spread} {n}" + (f" {cell['interval']}" if "interval" in cell else "")


def test_bars_lie_where_the_numbers_are() -> None:
    (group,) = group_runs([record(fold=0, counts=native((8, 2, 2), (6, 4, 4))), record(fold=1, counts=native((5, 5, 5),
                          (5, 5, 5)))])  # fmt: skip
    scores = data([group])["groups"][0]["scores"]["dice"]
    low, high = scores["axis"]
    cell = scores["views"]["strict"]["cells"][0][0]
    assert low <= 50 and high >= 70 and low % 5 == high % 5 == 0
    places = [cell["at"], *cell["draws"]]
    assert [low + place / 100 * (high - low) for place in places] == pytest.approx([60, 70, 50], abs=0.1)


def test_a_row_above_the_runner_up_beyond_chance_is_bold_under_strict_alone() -> None:
    low, high = [5, 5, 5, 5, 5, 5], [7, 7, 8, 8, 6, 6]
    (group,) = group_runs([*(run("clear", high, fold) for fold in range(2)), *(run("low", low, f) for f in range(2))])
    for metric, views in data([group])["groups"][0]["scores"].items():
        for protocol, view in views["views"].items():
            table = score_table(group, protocol, metric, {20: best(group, 20, protocol, metric)})
            marked = [row[0]["mean"] for row in view["cells"] if row[0].get("best")]
            assert len(marked) == (protocol == "strict") == sum(isinstance(row[1], Strong) for row in table.rows)
    text = render([group], {}, {}, "")
    assert text.count('<span class="mean"><strong>') == 1 and '<span class="mean"><strong>70.00</strong>' in text
    (tied,) = group_runs([run(name, low, fold) for name in ("one", "two") for fold in range(2)])
    assert "<strong>5" not in render([tied], {}, {}, "")


def test_a_page_is_current_while_its_records_and_provenance_are() -> None:
    groups = made_groups()
    told = f"made by {HOSTILE}\nand more"
    assert embedded(whole())["provenance"] == told
    assert current(whole(), groups, told) and current(render(groups, {}, {}, told), groups, told)
    assert not current(whole(), groups, "made by another") and not current(whole(), groups[:1], told)
    first, *others = groups[0].runs
    changed = replace(first, record={**first.record, "cost": {**first.record["cost"], "seconds_per_step": 0.6}})
    assert not current(whole(), [replace(groups[0], runs=(changed, *others)), groups[1]], told)
    for odd in ("", "<html>", whole().replace('id="data">{', 'id="data">'), whole().replace('"pictures"', '"other"')):
        assert not current(odd, groups, told)
    for odd in ("null", "[]", "{}", '{"groups":1}', '{"groups":[1]}'):
        assert not current(f'<script type="application/json" id="data">{odd}</script>', groups, told)
    assert current(render([], {}, {}, ""), [], "")


def test_runs_keep_status_reason_command_and_their_whole_configuration() -> None:
    groups = made_groups()
    found = data(groups)
    for group, entry in zip(groups, found["groups"], strict=True):
        assert len(entry["runs"]) == len(group.runs)
        for made, shown in zip(group.runs, entry["runs"], strict=True):
            settings = entry["common"] | entry["settings"][shown["settings"]]
            assert {key: json.loads(value) for key, value in settings.items()} == made.spec["values"]
            assert found["environments"][shown["environment"]] == made.record["environment"]
            assert entry["labels"][shown["label"]] == made.label and shown["status"] == made.record["status"]
            assert shown.get("reason") == made.record["reason"] and ("scores" in shown) == made.done
    assert "method.x" in found["groups"][1]["settings"][0] and not found["groups"][1]["common"]


def test_wanted_runs_that_are_missing_are_listed_with_a_reason() -> None:
    (group,) = group_runs([record()])
    spec = {**group.runs[0].spec, "fold": 1}
    found = Wanted("alpha", group.runs[0].record["run_id"], group.runs[0].spec)
    group = replace(group, wanted=(found, Wanted("alpha", "x", spec, "missing", "nobody made it")))
    entry = data([group])["groups"][0]
    assert [(run["status"], run.get("reason")) for run in entry["runs"]][1:] == [("missing", "nobody made it")]
    assert entry["scores"]["dice"]["views"]["strict"]["cells"][0][0]["of"] == 2
    text = render([group, replace(group, name="again")], {}, {}, "")
    assert "(1/2)" in text and "<b>1</b> run<" in text and "<b>1</b> without a record<" in text


def test_the_same_arguments_give_the_same_text() -> None:
    assert whole() == whole()
    records = [record(name, fold=fold, counts=evidence(fold)) for name in ("alpha", "beta") for fold in range(3)]
    assert render(group_runs(records), {}, {}, "") == render(group_runs(records[::-1]), {}, {}, "")


def test_names_with_html_in_them_stay_text() -> None:
    text = whole()
    page = Reader(text)
    assert "<script>alert" not in text and "<b>bold" not in text
    assert [sorted(attributes) for attributes in page.named("script")] == [["id", "type"], []]
    assert text.count("</script>") == 2
    assert HOSTILE in embedded(text)["groups"][0]["labels"]
    assert sum(HOSTILE in attributes.get("aria-label", "") for attributes in page.named("button")) == 1
    assert any(HOSTILE in part for part in page.texts)


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    page = Reader(whole())
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert addresses and all(str(value).startswith(("data:", "#")) for value in addresses)
    policy = page.named("meta")[1]["content"] or ""
    assert policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy


def test_score_tables_are_not_repeated_and_empty_ones_left_out() -> None:
    (group,) = group_runs([record()])
    extra = [score_table(group, "strict"), score_table(group, "paper", "jaccard"), Table("Empty one", "", ["a"], [])]
    text = render([group], {group.name: [*extra, gap_table(group)]}, {}, "")
    assert text.count('<details class="other">') == 1 and "Empty one" not in text


def test_nothing_to_show_is_said() -> None:
    assert "There are no runs to show." in render([], {}, {}, "")
    (group,) = group_runs([record(status="failed", reason="lost")])
    assert "failed (0/1)" in render([group], {}, {}, "")


def test_the_legend_has_the_colours_of_the_overlays() -> None:
    style = Reader(whole()).texts
    assert all(colour.lower() in " ".join(style) for colour in (FOUND, INVENTED, MISSED))


def test_pages_of_a_thousand_runs_stay_small() -> None:
    shared = [evidence(seed) for seed in range(4)]
    records = [record(f"m{place:02}", ratio, fold, seed, counts=shared[(place + fold) % 4], command="x" * 150,
                      values={f"train.setting{k}": k for k in range(60)} | {"method.own": place})
               for place in range(20) for ratio in (10, 20) for fold in range(5) for seed in range(5)]  # fmt: skip
    for number, (made, _) in enumerate(records):
        made["run_id"] = f"run-{number}"
    groups = group_runs(records)
    text = render(groups, {}, {}, "")
    assert len(embedded(text)["groups"][0]["runs"]) == 1000 and len(text) < 3_000_000
    assert np.isclose(embedded(text)["groups"][0]["scores"]["dice"]["views"]["strict"]["cells"][0][0]["n"], 25)
