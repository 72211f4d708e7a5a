"""The page in headless Chromium: for a mouse, a keyboard, a phone and a screen reader."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clgym.board.page.render import render
from clgym.papers.status import ClaimStatus, PaperStatus, RowStatus, write_status

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BINARY = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BINARY and DRIVER), reason="chromium or chromedriver is not installed"),
]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
)
CSS = "css selector"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BINARY
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, write_run) -> str:
    folder = tmp_path_factory.mktemp("leaderboards")
    for name, right in (("weak", 2), ("strong", 9), ("middle", 5)):
        for seed in range(3):
            run = folder / f"records/{name}/seed-{seed}"
            write_run(run, hits=((9, None), (right, 8 - seed)), seed=seed, strategy=name)
    status = ClaimStatus(
        claim="strong beats weak", claimed="81.3", measured="81.0", tolerance="0.5",
        verdict="reproduced", where="table 1", known="verified",
    )  # fmt: skip
    row = RowStatus(row="main", scale="lite", about="small", claims=(status,))
    paper = PaperStatus(paper="paper", title="A paper", link="https://example.org", rows=(row,))
    write_status(folder / "status/paper.json", paper)
    write_run(folder / "records/single", strategy="single", predictions=False, source_flags=["odd"])
    long = "a-strategy-with-a-name-that-nobody-would-want-to-type-twice"
    write_run(folder / "records/other", scenario="split-other", strategy=long)
    (folder / "records/bad").mkdir()
    (folder / "records/bad/record.json").write_text("{}")
    render(folder, folder / "site")
    return (folder / "site/index.html").as_uri()


def _open(browser, page: str, width: int = 1440) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page)
    browser.execute_script("localStorage.clear()")
    browser.get(page)


def _methods(browser) -> list[str]:
    """Names in the first table, as they are shown."""
    found = browser.find_elements(CSS, "section.board:not([hidden]) tbody tr")
    return [row.find_element(CSS, "th button").text for row in found]


def _head(browser, key: str):
    return browser.find_element(CSS, f"#t-{_first(browser)} thead .c-{key}")


def _first(browser) -> str:
    """The table with four rows."""
    sections = browser.find_elements(CSS, "section.board")
    return max(sections, key=lambda s: len(s.find_elements(CSS, "tbody tr"))).get_attribute("id")[
        2:
    ]


def _order(browser) -> list[str]:
    rows = browser.find_elements(CSS, f"#t-{_first(browser)} tbody tr")
    return [row.find_element(CSS, "th button").text for row in rows]


def test_headers_sort_and_say_so(browser, page):
    _open(browser, page)
    head = _head(browser, "score")
    head.find_element(CSS, "button").click()
    assert _order(browser) == ["strong", "single", "middle", "weak"]
    assert head.get_attribute("aria-sort") == "descending"
    head.find_element(CSS, "button").click()
    assert _order(browser) == ["weak", "middle", "single", "strong"]
    assert head.get_attribute("aria-sort") == "ascending"
    assert len(browser.find_elements(CSS, f"#t-{_first(browser)} [aria-sort]")) == 1
    _head(browser, "rank").find_element(CSS, "button").click()
    assert _order(browser)[-1] == "single"  # what has no rank comes last
    _head(browser, "rank").find_element(CSS, "button").click()
    assert _order(browser)[-1] == "single"


def test_filters_hide_rows_and_whole_tables(browser, page):
    _open(browser, page)
    everything = _methods(browser)
    browser.find_element(CSS, "#search").send_keys("WEA")
    assert _methods(browser) == ["weak"]
    assert browser.find_element(CSS, "#found").text == f"1 of {len(everything)} rows"
    browser.find_element(CSS, ".filters button[type=reset]").click()
    assert _methods(browser) == everything
    browser.find_element(CSS, "#trust").send_keys("self-reported")
    assert _methods(browser) == ["single"]
    browser.find_element(CSS, ".filters button[type=reset]").click()
    browser.find_element(CSS, "#stream").send_keys("split-other")
    assert len(_methods(browser)) == 1
    browser.find_element(CSS, ".filters button[type=reset]").click()
    browser.find_element(CSS, "#search").send_keys("odd")  # a flag
    assert _methods(browser) == ["single"]


def test_details_open_by_mouse_and_by_keyboard(browser, page):
    from selenium.webdriver.common.keys import Keys

    _open(browser, page)
    dialog = browser.find_element(CSS, "dialog")
    section = f"#t-{_first(browser)}"
    browser.find_element(CSS, f"{section} tbody td.c-score").click()
    _wait(dialog.is_displayed)
    text = dialog.text
    for part in ("Runs", "Accuracy matrix", "Options", "Environment", "Cost", "Warnings"):
        assert part in text
    assert len(dialog.find_elements(CSS, ".heat td")) == 4
    browser.find_element(CSS, "#close").click()
    assert not dialog.is_displayed()
    _wait(lambda: _hash(browser) == "")
    button = browser.find_element(CSS, f"{section} tbody .c-method button")
    button.send_keys(Keys.ENTER)
    _wait(dialog.is_displayed)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert browser.switch_to.active_element == button  # the reader is back where they were


def test_the_matrix_shows_the_mean_over_seeds(browser, page):
    _open(browser, page)
    rows = browser.find_elements(CSS, f"#t-{_first(browser)} tbody tr")
    weak = next(row for row in rows if "weak" in row.text)
    weak.find_element(CSS, "th button").click()
    _wait(browser.find_element(CSS, "dialog").is_displayed)
    cells = [cell.text for cell in browser.find_elements(CSS, "dialog .heat td")]
    assert cells == ["90.0", "", "20.0", "70.0"]


def test_the_theme_changes_and_stays(browser, page):
    _open(browser, page)
    toggle = browser.find_element(CSS, "#theme")

    def paper() -> str:
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    toggle.click()
    light = paper()
    toggle.click()
    dark = paper()
    assert toggle.text == "Theme: dark" and light != dark
    browser.get(page)
    assert paper() == dark
    browser.find_element(CSS, "#theme").click()
    preference = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", preference)
    assert paper() == dark
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert paper() == light


@pytest.mark.parametrize("width", [375, 1440])
def test_nothing_flows_over(browser, page, width):
    _open(browser, page, width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    script = "return document.documentElement.scrollWidth"
    assert browser.execute_script(script) <= width
    browser.find_element(CSS, f"#t-{_first(browser)} tbody th button").click()
    _wait(browser.find_element(CSS, "dialog").is_displayed)
    assert browser.execute_script(script) <= width
    wide = "const b = document.getElementById('details-body'); return b.scrollWidth - b.clientWidth"
    assert browser.execute_script(wide) <= 0


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser, page, width, theme):
    package = pytest.importorskip("axe_core_python")
    source = Path(package.__file__).parent / "axe.min.js"
    _open(browser, page, width)
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    browser.execute_script(source.read_text())
    found = [*_violations(browser)]
    browser.find_element(CSS, f"#t-{_first(browser)} tbody th button").click()
    _wait(browser.find_element(CSS, "dialog").is_displayed)
    assert found + _violations(browser) == []


def _violations(browser) -> list[str]:
    run = "const done = arguments[0]; axe.run().then((r) => done(JSON.stringify(r.violations)))"
    violations = json.loads(browser.execute_async_script(run))
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in violations]


def _hash(browser) -> str:
    return browser.execute_script("return location.hash")


def _wait(condition) -> None:
    """Addresses change after the script that changes them has ended."""
    from selenium.webdriver.support.ui import WebDriverWait

    nobody: Any = object()
    WebDriverWait(nobody, 10).until(lambda _: condition())


@pytest.mark.parametrize("width", [375, 1440])
def test_a_number_of_the_overview_leads_to_its_row_and_back(browser, page, width):
    _open(browser, page, width)
    weak = next(
        row
        for row in browser.find_elements(CSS, ".matrix tbody tr")
        if row.find_element(CSS, "th").text == "weak"
    )
    link = weak.find_element(CSS, "td a")
    assert link.text == "45.0"  # 2 + 8 - seed right answers of 20: the mean over the seeds
    link.click()
    _wait(lambda: browser.find_elements(CSS, "tr.found"))
    found = browser.find_element(CSS, "tr.found")
    assert found.get_attribute("id") == _hash(browser)[1:]
    assert found.find_element(CSS, "th button").text == "weak"
    box = found.rect["y"] - browser.execute_script("return scrollY")
    assert 0 <= box <= 900, "the row is on the screen"
    browser.back()
    _wait(lambda: _hash(browser) == "")


def test_details_have_an_address_and_the_back_button_closes_them(browser, page):
    _open(browser, page)
    dialog = browser.find_element(CSS, "dialog")
    browser.find_element(CSS, f"#t-{_first(browser)} tbody th button").click()
    _wait(dialog.is_displayed)
    address = browser.current_url
    assert "#details-" in address
    browser.back()
    _wait(lambda: not dialog.is_displayed())
    browser.get("about:blank")
    browser.get(address)  # sent to somebody
    _wait(browser.find_element(CSS, "dialog").is_displayed)
    browser.find_element(CSS, "#close").click()
    _wait(lambda: _hash(browser).startswith("#row-"))


def test_an_address_leads_to_a_row_that_a_filter_hides(browser, page):
    _open(browser, page)
    row = browser.find_element(CSS, "section.board tbody tr").get_attribute("id")
    browser.find_element(CSS, "#search").send_keys("no such method")
    assert not browser.find_elements(CSS, f"#{row}")
    browser.execute_script("location.hash = arguments[0]", row)
    _wait(lambda: browser.find_elements(CSS, f"#{row}.found"))


@pytest.mark.parametrize("width", [375, 1440])
def test_every_row_is_at_most_three_screens_away(browser, page, width):
    """The overview stands on the first two; a link of it brings the table to the screen."""
    _open(browser, page, width)
    end = browser.execute_script(
        "return document.querySelector('.matrix').getBoundingClientRect().bottom + scrollY"
    )
    assert end <= 2 * 900
    heads = {
        link.get_attribute("href").partition("#")[2]
        for link in browser.find_elements(CSS, ".matrix thead a")
    }
    for section in browser.find_elements(CSS, "section.board"):
        assert section.get_attribute("id") in heads
        rows = section.find_elements(CSS, "tbody tr")
        assert rows[-1].rect["y"] - section.rect["y"] <= 900


def test_claims_are_read_on_a_phone_without_scrolling_sideways(browser, page):
    _open(browser, page, 375)
    table = browser.find_element(CSS, "table.cards")
    for claims in browser.find_elements(CSS, "table.claims"):
        frame = claims.find_element("xpath", "..")
        assert browser.execute_script(
            "return arguments[0].scrollWidth <= arguments[0].clientWidth", frame
        )
    verdict = next(
        cell
        for cell in table.find_elements(CSS, "td")
        if cell.get_attribute("data-head") == "Verdict"
    )
    assert verdict.is_displayed() and "reproduced" in verdict.text


def test_a_phone_shows_rank_method_mode_and_number_without_scrolling_sideways(browser, page):
    _open(browser, page, 375)
    section = browser.find_element(CSS, f"#t-{_first(browser)}")
    for key in ("rank", "method", "score"):
        cell = section.find_element(CSS, f"tbody .c-{key}")
        assert cell.rect["x"] + cell.rect["width"] <= 375
    method = section.find_element(CSS, "tbody .c-method")
    shown = "return getComputedStyle(arguments[0], '::after').content"
    assert "untuned" in browser.execute_script(shown, method)


def test_the_console_stays_empty(browser, page):
    browser.get_log("browser")
    _open(browser, page)
    browser.find_element(CSS, f"#t-{_first(browser)} tbody th button").click()
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_five_thousand_rows_stay_usable(browser, board_folder, write_run, tmp_path):
    template = (write_run(tmp_path / "template", predictions=False) / "record.json").read_text()
    for number in range(5000):
        folder = board_folder / f"records/{number}"
        folder.mkdir()
        changed = template.replace('"lr": 0.1', f'"lr": {(number * 7919) % 5000}.5')
        (folder / "record.json").write_text(changed)
    render(board_folder, tmp_path / "site")
    _open(browser, (tmp_path / "site/index.html").as_uri())
    assert len(browser.find_elements(CSS, "section.board tbody tr")) == 100
    # The page's own time: on a busy machine the clock counts what others do.
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    click = "arguments[0].click(); document.body.offsetHeight"
    head, before = browser.find_element(CSS, "thead .c-method button"), _busy(browser)
    for _ in range(5):
        browser.execute_script(click, head)
    assert (_busy(browser) - before) / 5 < 0.2
    labels = [e.text for e in browser.find_elements(CSS, "section.board tbody tr .label")[:3]]
    assert labels == ["lr 0.5", "lr 1.5", "lr 2.5"]
    browser.find_element(CSS, ".more button").click()
    assert len(browser.find_elements(CSS, "section.board tbody tr")) == 200


def _busy(browser) -> float:
    """Seconds that the page's main thread has worked."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(m["value"] for m in metrics if m["name"] == "TaskDuration")
