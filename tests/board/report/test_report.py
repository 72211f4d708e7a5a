"""`clgym report`: one page that says what is there, and nothing that a record smuggles in."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clgym.board.report.layout import report
from clgym.errors import BadRecord


class Page(HTMLParser):
    """The page's tags with their attributes, its text, and its tables by caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.facts: dict[str, str] = {}
        self._inside: list[str] = []
        self._rows: list[list[str]] = []
        self._term = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._inside.append(tag)
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data):
        place = self._inside[-1] if self._inside else ""
        if place == "style":
            return
        self.words.append(data)
        if place == "caption":
            self._rows = self.tables.setdefault(data, [])
        elif place in ("td", "th"):
            self._rows[-1][-1] += data
        elif place == "dt":
            self._term = data
        elif place == "dd":
            self.facts[self._term] = data

    def table(self, start: str) -> list[list[str]]:
        """Rows below the head of the table whose caption begins so."""
        return next(rows[1:] for caption, rows in self.tables.items() if caption.startswith(start))


@pytest.fixture
def made(runs):
    return runs / "nmc"


def test_the_numbers_of_every_seed(made):
    page = Page(report(made))
    rows = page.table("Accuracies")
    assert [row[0] for row in rows] == ["0", "1", "mean", "standard deviation"]
    first, second, mean, spread = ([float(cell) for cell in row[1:4]] for row in rows)
    for a, b, m, s in zip(first, second, mean, spread, strict=True):
        assert m == pytest.approx((a + b) / 2, abs=0.0051)
        assert s == pytest.approx(abs(a - b) / 2**0.5, abs=0.0151)
    assert "all numbers agree with the predictions" in "".join(page.words)


def test_accuracy_by_class_is_counted_from_the_predictions(runs, by_class):
    folder = runs / "means"
    rows = Page(report(folder)).table("After the last experience")
    found = {row[0]: (int(row[2]), float(row[3])) for row in rows}
    wanted = {n: (c, round(100 * a, 1)) for n, (c, a) in by_class(folder).items()}
    assert found.keys() == wanted.keys()
    for name, (count, accuracy) in wanted.items():
        assert found[name] == (count, pytest.approx(accuracy, abs=0.051))
    accuracies = [float(row[3]) for row in rows]
    assert accuracies == sorted(accuracies)


def test_settings_cost_and_environment_are_there(runs):
    page = Page(report(runs / "means"))
    assert page.facts["power"] == "2"
    assert page.facts["source"] == "digits"
    assert page.facts["engine"] == "process"
    assert re.fullmatch("[0-9a-f]{64}", page.facts["strategy's file, SHA-256"])
    assert len(page.table("Cost of each run")) == 1
    matrix = page.table("Accuracy matrix as a table")
    assert [row.count("-") for row in matrix] == [4, 3, 2, 1, 0]


def test_the_page_needs_nothing_and_runs_nothing(made):
    text = report(made)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    links = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href")]
    assert links
    assert all(link and link.startswith(("#", "data:")) for link in links)
    assert not [k for _, attrs in page.tags for k in attrs if k.startswith("on")]
    assert "@import" not in text
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert report(made) == text


def test_names_from_records_are_text(runs, edit):
    attack = "<script>alert(1)</script>"

    def rename(record):
        result = record["result"]
        result["strategy"]["name"] = f"a{attack}"
        result["strategy"]["config"] = {f"b{attack}": f"c{attack}"}
        result["scenario"]["name"] = f'd"{attack}'
        result["sources"][0].update(name=f"e{attack}", flags=[f"f{attack}"])
        result["class_order"] = [f"{name}{attack}" for name in result["class_order"]]
        record["environment"]["platform"] = f"g{attack}"

    edit(runs / "means", rename)
    text = report(runs / "means")
    assert "<script" not in text
    words = "".join(Page(text).words)
    for start in ("a", "b", "c", 'd"', "e", "f", "g", "digits/3"):
        assert f"{start}{attack}" in words, start


def test_the_report_names_numbers_that_contradict_the_predictions(runs, edit):
    edit(runs / "means", lambda r: r["result"].update(last_accuracy=0.999))
    words = "".join(Page(report(runs / "means")).words)
    assert "does not hold seed 0: result.last_accuracy does not follow from the matrix" in words


def test_the_report_of_a_run_without_predictions_shows_the_rest(runs):
    (runs / "means/predictions.safetensors").unlink()
    page = Page(report(runs / "means"))
    words = "".join(page.words)
    assert "does not hold seed 0: its predictions are missing" in words
    assert "Accuracy by class needs the predictions" in words
    assert page.table("Accuracies")


def test_the_report_of_an_adaptation_run_has_its_errors_by_segment(adapting):
    page = Page(report(adapting))
    segments = page.table("Segments in order")
    assert [row[:2] for row in segments] == [["fog-5", "40"], ["snow-5", "30"]]
    assert len(page.table("Error by class")) == 10
    names = [attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg"]
    assert names == ["error along tiny-c, first seed"]


def test_a_report_of_several_methods_is_refused(runs, cli):
    for folder in runs.glob("nmc/*"):
        folder.rename(runs / folder.name)
    (runs / "nmc").rmdir()
    with pytest.raises(BadRecord, match="expected one method .* found means, nmc"):
        report(runs)
    code, out, err = cli("report", runs)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert not (runs / "report.html").exists()


def test_the_report_is_written_into_the_run_or_to_out(made, cli, tmp_path):
    assert cli("report", made)[:2] == (0, f"report: {made}/report.html\n")
    out = tmp_path / "pages/one.html"
    assert cli("report", made, "--out", out)[0] == 0
    assert out.read_text() == (made / "report.html").read_text()


@pytest.mark.slow
def test_the_report_of_a_study_has_its_trials_and_its_choice(study):
    page = Page(report(study))
    ledger = (study / "ledger.jsonl").read_text().splitlines()
    assert len(page.table("Every event")) == len(ledger)
    assert len(page.table("All trials")) == 2
    scores = [float(row[3]) for row in page.table("All trials")]
    chosen = page.table("Chosen hyper-parameters")[0]
    assert float(chosen[3]) == max(scores)
    assert chosen[2] == str(scores.index(max(scores)))
    assert "checks of the study hold" in "".join(page.words)
    names = [attrs.get("aria-label") or "" for tag, attrs in page.tags if tag == "svg"]
    assert any(name.startswith("expected best") for name in names)


@pytest.mark.slow
def test_the_report_of_a_study_without_evaluation_has_no_result(study):
    for file in study.rglob("evaluation.json"):
        file.unlink()
    words = "".join(Page(report(study)).words)
    assert "no result yet" in words
    assert "does not hold" in words  # the ledger speaks of one


@pytest.fixture
def browser():
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver = Path("/usr/bin/chromedriver")
    if not driver.is_file():
        pytest.skip("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(driver)))
    yield opened
    opened.quit()


@pytest.mark.slow
def test_in_a_browser_nothing_overflows(made, browser, tmp_path, edit):
    edit(made / "seed-0", lambda r: r["result"]["strategy"]["config"].update(long="x" * 300))
    edit(made / "seed-1", lambda r: r["result"]["strategy"]["config"].update(long="x" * 300))
    file = tmp_path / "page.html"
    file.write_text(report(made))
    for width in (375, 1440):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(file.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        seen = browser.execute_script(
            "return [...document.querySelectorAll('svg.figure')].every(f => f.clientHeight > 50)"
        )
        assert seen
    assert browser.get_log("browser") == []
