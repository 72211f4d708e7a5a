"""The site builds without a warning, every page is in its navigation, and no link leads nowhere."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".ci" / "site"
NAVIGATION = tomllib.loads((SITE / "zensical.toml").read_text())["project"]["nav"]
GENERATED = {"commands.md", "reference.md", "gallery/index.md"}
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test import the generator's modules, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(SITE))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SITE)):
            del sys.modules[name]


def pages(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for part in nav:
            yield from pages(part)
    else:
        assert isinstance(nav, dict)
        for part in nav.values():
            yield from pages(part)


def anchor(heading: str) -> str:
    """A heading's identifier, as Python-Markdown makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_every_page_has_its_place_in_the_navigation() -> None:
    shown = set(pages(NAVIGATION)) - GENERATED - {"@methods"}
    written = {page.name for page in (ROOT / "docs").glob("*.md")}
    books = {f"notebooks/{book.stem}.md" for book in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    assert shown == written | books


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """The built site is checked by its own build; this needs no generator."""
    for name, heading in LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        known = name in GENERATED or name.startswith("methods/")
        assert known or target.is_file(), f"{page.name}: {name}"
        if heading and not known:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in {anchor(text) for text in headings}, f"{page.name}: #{heading}"


@pytest.mark.usefixtures("modules")
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    import links  # pyright: ignore[reportMissingImports]

    tmp_path.joinpath("there.html").write_text('<h2 id="here">x</h2>')
    good = '<a href="there.html#here">x</a> <a href="https://example.org/none" id="me">x</a>'
    good += '<a href="#me">x</a>'
    tmp_path.joinpath("page.html").write_text(good)
    assert links.broken(tmp_path) == []
    bad = good + '<img src="none.png"> <a href="there.html#gone">x</a>'
    tmp_path.joinpath("page.html").write_text(bad)
    assert links.broken(tmp_path) == [
        "page.html: none.png leads to no file",
        "page.html: there.html#gone names no heading",
    ]


@pytest.mark.usefixtures("modules")
def test_formulas_of_a_docstring_become_blocks() -> None:
    import writing  # pyright: ignore[reportMissingImports]

    doc = "Minimises::\n\n    a < b *\n      c\n\nwhere a < ``x < y``. Steps:\n\n"
    doc += "1. One::\n\n       d\n"
    assert writing.prose(doc) == (
        "Minimises:\n\n```text\na < b *\n  c\n```\n\nwhere a &lt; ``x < y``. Steps:\n\n"
        "1. One:\n\n    ```text\n    d\n    ```\n"
    )
    assert writing.folded(["a < b"]).endswith("<ul><li>a &lt; b</li></ul></details>")
    assert writing.cell("a|b *c* `d|e`\nf") == "a&#124;b &#42;c&#42; <code>d&#124;e</code> f"


@pytest.mark.usefixtures("modules")
def test_rooms_stand_above_what_they_import() -> None:
    import diagram  # pyright: ignore[reportMissingImports]

    page = '```mermaid\nflowchart TD\n a["<b>a</b>"] --> b & c\n b --> c["C"]\n```\n'
    drawn = diagram.as_floors(page)
    floors = re.findall(r'<div class="floor">(.*?)</div></div>', drawn)
    assert floors == ["<div><b>a</b>", "<div>b", "<div>C"]


@pytest.mark.slow
@pytest.mark.usefixtures("modules")
def test_the_commands_page_has_every_option_of_help() -> None:
    import commands  # pyright: ignore[reportMissingImports]

    page = commands.page()
    for name in ("table", "tune", "compare"):
        shown = subprocess.run(
            [sys.executable, "-m", "clgym", name, "--help"], capture_output=True, text=True
        ).stdout
        for option in set(re.findall(r"--[a-z][a-z-]+", shown)) - {"--help"}:
            assert option in page, option


@pytest.mark.slow
@pytest.mark.usefixtures("modules")
def test_a_method_page_has_paper_options_differences_and_results() -> None:
    methods: ModuleType = __import__("methods")
    known = {method.name: method for method in methods.load_methods([])}
    page = methods.page(known["icarl"])
    assert "(https://arxiv.org/abs/1611.07725)" in page
    assert "| `--memory-size` | `2000` |" in page
    what, differs = page.split("## What it does\n")[1].split("## Where it differs\n")
    assert "softmax cross-entropy over all classes" in what
    assert "The original has a sigmoid for each class instead" in differs
    assert "## Claims of" in page
    beef = methods.page(known["beef"])
    assert "Also in: [" in beef and "Paper: [" not in beef  # its file gives no number of arXiv
    assert {known[n].family for n in ("lame", "eata")} == {"At test time"} and known[
        "refresh"
    ].family.startswith("Around")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("zensical") is None, reason="zensical is not installed (extra docs)")
def test_the_site_builds(tmp_path: Path) -> None:
    build = [sys.executable, str(SITE / "build.py"), "--without-outputs", "--out", str(tmp_path)]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / ("" if page.stem == "index" else page.stem) / "index.html").is_file()
    strategies = {p.stem.replace("_", "-") for p in (ROOT / "strategies").glob("[a-z]*.py")}
    assert strategies <= {page.parent.name for page in site.glob("methods/*/index.html")}
    assert "methods/er-ace/" in (site / "methods" / "index.html").read_text().replace(
        "../", "methods/"
    )
