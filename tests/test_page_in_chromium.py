"""The page in a real browser, opened from disk: sorts, filters, switches, opens images and runs, asks for nothing."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from benchmark.report.page import render
from benchmark.report.render import Table
from benchmark.report.tables import score_table
from tests.made_records import only, record
from tests.test_page import HOSTILE, made_groups, whole

pytestmark = pytest.mark.browser
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A Selenium driver with a fresh profile; both programs are named, so that Selenium looks for none itself."""
    pytest.importorskip("selenium")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("chromium or chromedriver is not installed")
    options = ChromeOptions()
    options.binary_location = str(programs[0])
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        started = Chrome(options=options, service=ChromeService(programs[1]))
        try:
            yield started
        finally:
            started.quit()


def resize(driver: Any, width: int, height: int = 900) -> None:
    """The size of the page itself, as on a phone: a window has a least width."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(driver: Any, scheme: str) -> None:
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    named = [{"name": name, "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": named})


def requests(driver: Any) -> list[str]:
    """Addresses that pages asked for since the last call; what the browser's own first tab loads is left out."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "chrome:"))]


def complaints(driver: Any) -> list[str]:
    """Messages of the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Iterator[Any]:
    """The page, freshly opened from disk on a laptop; afterwards it has said and asked nothing."""
    path = tmp_path / "page.html"
    path.write_text(whole(), encoding="utf-8")
    prefer(driver, "light")
    resize(driver, 1280)
    requests(driver), complaints(driver)
    driver.get(path.as_uri())
    yield driver
    assert complaints(driver) == []
    assert set(requests(driver)) == {path.as_uri()}


ALL = "return [...document.querySelectorAll(arguments[0])]"


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def texts(page: Any, selector: str) -> list[str]:
    """The texts of what is visible."""
    return page.execute_script(ALL + ".filter(e => e.checkVisibility()).map(e => e.innerText)", selector)


def open_everything(page: Any) -> None:
    page.execute_script("document.querySelectorAll('details').forEach(details => { details.open = true; })")


def choose(page: Any, name: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(find(page, f"#toolbar [name={name}]")).select_by_visible_text(text)


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(*keys).perform()


ROWS = "#group-0 .scores tbody th"
COLUMN = "#group-0 .scores tbody td:nth-child(3) .mean"


def test_sorting_by_mouse_and_keyboard_says_so(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    before = texts(page, ROWS)
    head = find(page, "#group-0 .scores thead th[data-ratio='20']")
    head.find_element("tag name", "button").click()
    assert head.get_attribute("aria-sort") == "descending"
    means = [float(text) for text in texts(page, COLUMN)]
    assert means == sorted(means, reverse=True) and len(means) == 3
    press(page, Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending"
    means = [float(text) for text in texts(page, COLUMN)]
    assert means == sorted(means)
    assert set(texts(page, ROWS)[3:]) == {"delta", "gamma"}  # no score at 20 %: last in either direction
    press(page, Keys.SPACE)
    assert head.get_attribute("aria-sort") is None and texts(page, ROWS) == before
    find(page, "#group-0 .scores thead th button").click()
    assert sorted(texts(page, ROWS)[1:]) == texts(page, ROWS)[1:] == ["alpha", "beta", "delta", "gamma"]
    head.find_element("tag name", "button").click()
    page.execute_script("document.querySelector('input[value=paper]').click()")
    means = [float(text) for text in texts(page, COLUMN)]
    assert means == sorted(means, reverse=True)  # a switch of the protocol keeps the order's column


def test_other_tables_sort_by_number_whatever_stands_around_it(page: Any, tmp_path: Path) -> None:
    cells = ["[+2.5, +3]", "<0.001", "–", "1,234", "-8.97 ± 1", "12 (n=3)"]
    table = Table("Numbers", "", ["method", "value"], [[f"row {place}", cell] for place, cell in enumerate(cells)])
    group = only(record())
    (tmp_path / "page.html").write_text(render([group], {group.name: [table]}, {}, ""), encoding="utf-8")
    page.refresh()
    open_everything(page)
    find(page, ".other th:nth-child(2) button").click()
    assert texts(page, ".other td") == ["1,234", "12 (n=3)", "[+2.5, +3]", "<0.001", "-8.97 ± 1", "–"]
    find(page, ".other th:nth-child(2) button").click()
    assert texts(page, ".other td") == ["-8.97 ± 1", "<0.001", "[+2.5, +3]", "12 (n=3)", "1,234", "–"]


def test_switching_protocol_and_score_shows_their_numbers(page: Any) -> None:
    group = made_groups()[0]
    assert [label.strip() for label in texts(page, ROWS)] == list(group.rows)
    for metric in ("jaccard", "dice"):
        for protocol in ("validation", "paper", "strict"):
            for value in (protocol, metric):
                page.execute_script("document.querySelector(`input[value=${arguments[0]}]`).click()", value)
            table = score_table(group, protocol, metric)
            shown = [cell[:5] for row in table.rows[: len(group.rows)] for cell in row[1:] if cell[0].isdigit()]
            assert texts(page, "#group-0 .scores .mean") == shown
            assert texts(page, "#group-0 .scores-title") == [table.title]
            assert texts(page, "#group-0 .scores-caption") == [table.caption]
            assert bool(texts(page, "#group-0 .whisker")) == (protocol == "strict")


def test_filters_leave_what_was_asked_for(page: Any) -> None:
    titles = texts(page, ".group > h2")
    assert len(titles) == 2
    choose(page, "dataset", "other")
    assert texts(page, ".group > h2") == [title for title in titles if title.startswith("other")]
    choose(page, "ratio", "10 %")
    assert texts(page, ".group > h2") == [] and find(page, ".nothing").is_displayed()
    choose(page, "dataset", "all")
    assert len(texts(page, ".group > h2")) == 1
    assert [text.split()[0] for text in texts(page, "#group-0 .scores thead th")] == ["method", "10"]
    open_everything(page)
    assert set(texts(page, "#group-0 .other tbody td:nth-child(2)")) >= {"10 %"}
    assert "20 %" not in texts(page, "#group-0 .other tbody td:nth-child(2)")
    assert texts(page, "#group-0 .gallery li") == []
    find(page, "[name=find]").send_keys("ALP")
    assert texts(page, ROWS) == ["alpha"]
    find(page, "[name=find]").clear()
    find(page, "[name=find]").send_keys("x")
    find(page, "[name=find]").send_keys("\b")
    assert len(texts(page, ROWS)) == 5


def test_an_image_opens_and_keys_turn_overlays_and_pages(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    find(page, ".thumbnail").send_keys(Keys.ENTER)
    viewer = find(page, "#picture")
    assert viewer.is_displayed() and find(page, "#picture h2").text == "median: first"
    over = "#picture .over:not([hidden])"
    sizes = "return [...document.querySelectorAll('#picture .stack img:not([hidden])')].map(e => e.naturalWidth)"
    assert find(page, over).is_displayed() and page.execute_script(sizes) == [24, 24]
    assert texts(page, "#picture .rows label")[:2] == ["image alone", "truth"]
    assert [text.split("\n")[-1] for text in texts(page, "#picture .rows label")[2:]] == ["70.00", "60.00", "50.00"]
    assert find(page, "#picture :checked").get_attribute("value") == "alpha"
    before = find(page, over).get_attribute("src")
    press(page, Keys.ARROW_UP)
    assert find(page, "#picture :checked").get_attribute("value") == "beta"
    assert find(page, over).get_attribute("src") != before
    press(page, "o")
    assert texts(page, over) == []
    press(page, Keys.ARROW_RIGHT)
    assert find(page, "#picture h2").text == f"worst decile: {HOSTILE}" and find(page, ".place").text == "2 of 3"
    find(page, "#picture .next").click()
    assert find(page, "#picture h2").text == "third" and texts(page, over) == []
    press(page, Keys.ESCAPE)
    assert not viewer.is_displayed() and page.switch_to.active_element.get_attribute("class") == "thumbnail"


def test_a_runs_details_open_in_a_dialog(page: Any) -> None:
    find(page, "#group-0 .runs summary").click()
    find(page, "#group-0 .runs tbody")
    assert len(texts(page, "#group-0 .runs tbody tr")) == len(made_groups()[0].runs)
    failed = [row for row in page.find_elements("css selector", "#group-0 .runs tbody tr") if "failed" in row.text]
    failed[0].find_element("tag name", "button").click()
    told = find(page, "#run").text
    assert f"Traceback:\n{HOSTILE}" in told and "beta, 20 % labels, fold 3, seed 0" in told and "a CPU" in told
    find(page, "#run .close").click()
    assert "bold" not in page.execute_script(ALL + ".map(e => e.textContent)", "b")
    find(page, "#group-1 .runs summary").click()
    find(page, "#group-1 .open-run").click()
    told = find(page, "#run").text
    for words in ("Scores, strict", "Scores, paper", "1,234,567", "method.x", "versions of numbers", "Environment"):
        assert words in told


CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255)
  + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
function behind(element) {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, alpha = 1] = parse(getComputedStyle(at).backgroundColor);
    if (alpha === 1) return [r, g, b];
  }
  return [255, 255, 255];
}
const written = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
return [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && written(e)).filter((element) => {
  const pair = [parse(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05) < 4.5;
}).map((element) => `${element.tagName}.${element.className}: ${element.textContent.slice(0, 30)}`);
"""  # WCAG 2: names of the elements with text below 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(page: Any, scheme: str) -> None:
    prefer(page, scheme)
    open_everything(page)
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in paper[4:-1].split(",")) < 200) == (scheme == "dark")
    assert page.execute_script(CONTRAST) == []
    find(page, ".thumbnail").click()
    assert page.execute_script(CONTRAST) == []
    page.execute_script("document.querySelector('dialog[open]').close(); document.querySelector('.open-run').click()")
    assert page.execute_script(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_overflows_at_any_width(page: Any, width: int) -> None:
    resize(page, width)
    open_everything(page)
    wide = "return [document.documentElement.scrollWidth, innerWidth]"
    assert page.execute_script(wide) == [width, width]
    for opener in (".thumbnail", ".open-run"):
        page.execute_script("document.querySelector(arguments[0]).click()", opener)
        dialog = "const d = document.querySelector('dialog[open]'); return d.scrollWidth <= d.clientWidth"
        assert page.execute_script(dialog) and page.execute_script(wide) == [width, width]
        page.execute_script("document.querySelector('dialog[open]').close()")


def test_the_checks_of_console_and_network_can_fail(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<link rel=icon href=data:,><img src='other.png'><script>undefinedName()</script>")
    requests(driver), complaints(driver)
    driver.get(path.as_uri())
    assert any("undefinedName" in message for message in complaints(driver))
    assert requests(driver) == [path.as_uri(), (tmp_path / "other.png").as_uri()]
