"""The page as text: its numbers against the tables', hostile names, what it asks for."""

import base64
import io
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmark.protocols import PROTOCOLS
from benchmark.report.compare import difference_table, gap_table, waterfall_table
from benchmark.report.gather import group_runs
from benchmark.report.image_selection import FOUND, INVENTED, MISSED
from benchmark.report.page import current, data, page_of, render
from benchmark.report.render import Bold, Table
from benchmark.report.results_frame import METRICS, Group
from benchmark.report.tables import failure_table, score_table
from tests.made_records import expected, made_counts, native, only, record, tenths

HOSTILE = '<script>alert("1")</script>\'&amp;<b>bold'
TOLD = f"made by {HOSTILE}\nand more"
ROWS = ("alpha", "beta", HOSTILE)


def png(colour: tuple[int, ...]) -> str:
    stream = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", (24, 16), colour).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def picture(name: str, rule: str, ratio: int = 20, rows: tuple[str, ...] = ROWS) -> dict[str, Any]:
    shown = [{"name": row, "dice": f"{50 + 10 * place:.2f}", "overlay": png((0, 158, 115, 40 + 60 * place))}
             for place, row in enumerate(rows)]  # fmt: skip
    return {"id": name, "rule": rule, "image": png((200, 90, 160)), "truth": png((0, 0, 0, 90)), "rows": shown,
            "ratio": ratio, "draw": "fold 0, seed 0"}  # fmt: skip


def made_groups() -> list[Group]:
    """Two data sets; rows with every kind of cell: whole, incomplete, failed, one run, none."""
    records = [
        record(name, ratio, fold, counts=made_counts(10 * ratio + 3 * fold + place))
        for place, name in enumerate(("alpha", "beta")) for ratio in (10, 20) for fold in range(3)
    ]  # fmt: skip
    records += [record(HOSTILE, 20, 0, counts=made_counts(5), command=HOSTILE, environment={"device": HOSTILE})]
    records += [record("beta", 20, 3, status="failed", reason=f"Traceback:\n{HOSTILE}"), record("gamma", 10, 0)]
    records += [record("delta", 10, fold, status="diverged", reason="'supervised' was nan") for fold in range(3)]
    records += [record(name, fold=fold, counts=made_counts(fold), values={"method.x": fold}, dataset="other")
                for name in ("alpha", "beta") for fold in range(2)]  # fmt: skip
    return [replace(group, reference="alpha", about=f"About {HOSTILE}") for group in group_runs(records)]


@cache
def whole() -> str:
    groups = made_groups()
    bold = Table(HOSTILE, HOSTILE, ["method", HOSTILE], [[HOSTILE, Bold(HOSTILE)], ["plain", "1"]], [HOSTILE])
    tables = {
        group.name: [*(table for table in (score_table(group, "strict"), gap_table(group), waterfall_table(group),
                                           difference_table(group), failure_table(group)) if table), bold]
        for group in groups
    }  # fmt: skip
    pictures = [picture("first", "median"), picture(HOSTILE, "worst decile"), picture("third", "", rows=())]
    return render(groups, tables, {groups[0].name: pictures}, TOLD)


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


def score_views(text: str) -> list[list[str]]:
    """The score tables of a page in their order, each as the HTML of its cells."""
    tables = re.findall(r'<table class="sortable scores">.*?<tbody>(.*?)</tbody>', text, re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", table, re.DOTALL) for table in tables]


def test_a_cell_says_what_the_table_says() -> None:
    tables = [(group, score_table(group, protocol, metric)) for group in made_groups()
              for metric in METRICS for protocol in PROTOCOLS]  # fmt: skip
    for cells, (group, table) in zip(score_views(whole()), tables, strict=True):
        shown = ["".join(Reader(html.replace("<br>", " ")).texts).strip() for html in cells]
        texts = [cell for row in table.rows[: len(group.rows)] for cell in row[1:]]
        assert shown == [re.sub(r"\((n=\d)\)", r"\1", text) for text in texts]


def test_bars_lie_where_the_numbers_are() -> None:
    draws = native((8, 2, 2), (6, 4, 4)), native((5, 5, 5), (5, 5, 5))
    text = render([only(*(record(fold=fold, counts=counts) for fold, counts in enumerate(draws)))], {}, {}, "")
    low, high = map(int, re.findall(r"Bars from (\d+) to (\d+) %", text)[0])
    assert low <= 50 and high >= 70 and low % 5 == high % 5 == 0
    places = re.findall(r'class="(draw|dot)" style="left:([\d.]+)%"', score_views(text)[0][0])
    assert [kind for kind, _ in places] == ["draw", "draw", "dot"]
    assert [low + float(at) / 100 * (high - low) for _, at in places] == pytest.approx([70, 50, 60], abs=0.1)


def test_nothing_but_label_ratios_is_filtered_as_one() -> None:
    tags = Reader(whole()).tags
    assert "95 % interval" in whole()
    assert {at["data-ratio"] for _, at in tags if "data-ratio" in at} == {"10", "20"}


def test_a_row_above_all_others_beyond_chance_is_bold_under_strict_alone() -> None:
    low, high = [5, 5, 5, 5, 5, 5], [7, 7, 8, 8, 6, 6]
    group = only(*(tenths("clear", high, fold) for fold in range(2)), *(tenths("low", low, fold) for fold in range(2)))
    bold = [sum("<strong>" in cell for cell in cells) for cells in score_views(render([group], {}, {}, ""))]
    assert bold == [protocol == "strict" for _ in METRICS for protocol in PROTOCOLS]


def test_a_page_is_current_while_its_records_and_provenance_are() -> None:
    groups, text = made_groups(), whole()
    assert embedded(text)["provenance"] == TOLD
    assert current(text, groups, TOLD) and current(render(groups, {}, {}, TOLD), groups, TOLD)
    assert not current(text, groups, "made by another") and not current(text, groups[:1], TOLD)
    first, *others = groups[0].runs
    changed = replace(first, record={**first.record, "cost": {**first.record["cost"], "seconds_per_step": 0.6}})
    assert not current(text, [replace(groups[0], runs=(changed, *others)), groups[1]], TOLD)
    assert not current("<html>", groups, TOLD) and not current(text.replace('"run_id"', '"other"'), groups, TOLD)


def test_runs_keep_status_reason_command_and_their_whole_configuration() -> None:
    groups = made_groups()
    found = data(groups)
    for group, entry in zip(groups, found["groups"], strict=True):
        for made, shown in zip(group.runs, entry["runs"], strict=True):
            blocks = {title: found["shared"][at] for title, at in shown["blocks"] + shown["settings"]}
            same, other = (f"{start} same in every run of this table" for start in ("The", "Not the"))
            settings = blocks.get(same, {}) | blocks.get(other, {})
            assert {key: json.loads(value) for key, value in settings.items()} == made.spec["values"]
            assert blocks["Environment"] == made.record["environment"]
            assert shown["row"] == made.row and shown["status"] == made.record["status"]
            assert shown["reason"] == made.record["reason"] and ("Scores, strict" in blocks) == made.done
    page = Reader(whole())
    opens = [attributes for attributes in page.named("button") if attributes.get("class") == "open-run"]
    assert len(opens) == sum(len(group.runs) for group in groups)


def test_expected_runs_that_are_missing_are_listed_with_a_reason() -> None:
    group = only(record())
    lost = expected("alpha", group.runs[0].record, fold=1, run_id="x", missing="missing", reason="nobody made it")
    group = replace(group, expected=(expected("alpha", group.runs[0].record), lost))
    runs = data([group])["groups"][0]["runs"]
    assert [(run["status"], run.get("reason")) for run in runs][1:] == [("missing", "nobody made it")]
    text = render([group, replace(group, name="again")], {}, {}, "")
    assert "(1/2)" in text and "<b>1</b> run<" in text and "<b>1</b> without a record<" in text


@pytest.mark.parametrize(("names", "page"), [
    (["mine"], "mine"), (["mine-glas", "mine-ebhi"], "mine"), (["a-b", "a-b-on-other"], "a-b"),
    (["mine-ratio_20-glas", "mine-ratio_20-ebhi"], "mine-ratio_20"), (["one-glas", "two-ebhi"], "one-two"),
])  # fmt: skip
def test_a_page_is_called_like_what_the_names_of_its_groups_have_in_common(names: list[str], page: str) -> None:
    group = only(record())
    assert page_of([replace(group, name=name) for name in names], Path("results")).stem == page


def test_a_run_whose_dice_is_undefined_has_a_dash() -> None:
    counts = made_counts()
    counts["test_native"][:] = 0
    assert "<td>done</td><td>–</td>" in render([only(record(counts=counts))], {}, {}, "")


def test_the_order_of_records_changes_nothing() -> None:
    records = [record(name, fold=fold, counts=made_counts(fold)) for name in ("alpha", "beta") for fold in range(3)]
    assert render(group_runs(records), {}, {}, "") == render(group_runs(records[::-1]), {}, {}, "")


def test_names_with_html_in_them_stay_text_and_nothing_comes_from_elsewhere() -> None:
    text = whole()
    page = Reader(text)
    assert "<script>alert" not in text and "<b>bold" not in text and text.count("</script>") == 2
    assert [sorted(attributes) for attributes in page.named("script")] == [["id", "type"], []]
    assert HOSTILE in [run["row"] for run in embedded(text)["groups"][0]["runs"]]
    assert sum(HOSTILE in attributes.get("aria-label", "") for attributes in page.named("button")) == 1
    assert any(HOSTILE in part for part in page.texts)
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert addresses and all(str(value).startswith(("data:", "#")) for value in addresses)
    policy = page.named("meta")[1]["content"] or ""
    assert policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy
    assert all(colour.lower() in text for colour in (FOUND, INVENTED, MISSED))  # the legend of the overlays


def test_score_tables_are_not_repeated_and_what_is_empty_is_said() -> None:
    group = only(record())
    extra = [score_table(group, "strict"), score_table(group, "paper", "jaccard"), Table("Empty one", "", ["a"], [])]
    text = render([group], {group.name: [*extra, gap_table(group)]}, {}, "")
    assert text.count('<details class="other">') == 1 and "Empty one" not in text
    assert "There are no runs to show." in render([], {}, {}, "")
    assert "failed (0/1)" in render([only(record(status="failed", reason="lost"))], {}, {}, "")
