"""Build the documentation's site into build/site: `python .ci/site/build.py`.

The pages are those of docs/ and those that are generated from the code, the board's records and the
notebooks; nothing generated is a file of the repository, so it cannot differ from what it is about.
No network is used. A link that leads nowhere ends the build with an error.
"""

import argparse
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import diagram
import gallery
import links
import methods
import notebooks
import numbers_of_runs
import reference
from writing import cell, table

from clgym import errors
from clgym.board.reading.records import read_board

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("zensical.toml")
COSTS = "<!-- costs of the board's runs -->"
EXAMPLES = "<!-- the files -->"
ERRORS = "<!-- the errors -->"


def main() -> None:
    """Write the pages, render them, check the links."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="(default: build/)")
    parser.add_argument(
        "--without-outputs", action="store_true", help="do not execute the notebooks"
    )
    values = parser.parse_args()
    site = build(values.out.resolve(), run_notebooks=not values.without_outputs)
    print(f"{site}/index.html")


def build(out: Path, run_notebooks: bool = True) -> Path:
    """Build the site below ``out`` and return its folder."""
    docs, site = out / "docs", out / "site"
    for folder in (docs, site):
        shutil.rmtree(folder, ignore_errors=True)
    write_pages(docs, run_notebooks)
    render = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(
        [*render, "--config-file", str(out / "zensical.toml")], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    if found := links.broken(site):
        sys.exit("\n".join(found))
    return site


def write_pages(docs: Path, run_notebooks: bool) -> None:
    """All pages as Markdown, and the configuration beside their folder."""
    shutil.copytree(ROOT / "docs", docs)
    for page in docs.glob("*.md"):
        text = re.sub(r"(\]\(notebooks/[\w-]+)\.ipynb\)", r"\1.md)", page.read_text())
        page.write_text(diagram.as_floors(text))
    board = read_board(ROOT / "leaderboards").entries
    known, texts = methods.pages(board)
    texts = {**texts, "commands.md": commands.page(), "reference.md": reference.page()}
    for name, text in texts.items():
        docs.joinpath(name).parent.mkdir(exist_ok=True)
        docs.joinpath(name).write_text(text)
    _fill(docs / "cost.md", COSTS, numbers_of_runs.costs(board))
    _fill(docs / "examples.md", EXAMPLES, _examples())
    _fill(docs / "questions.md", ERRORS, _errors())
    gallery.write(docs / "gallery")
    notebooks.write(ROOT / "docs" / "notebooks", docs / "notebooks", run_notebooks)
    config = CONFIG.read_text().replace('"@methods"', _navigation(known))
    docs.with_name("zensical.toml").write_text(config)


def _fill(page: Path, place: str, text: str) -> None:
    """Put generated text into a page that is written by hand."""
    before, mark, after = page.read_text().partition(place)
    if not mark:
        sys.exit(f"{page.name} has no line {place}")
    page.write_text(before + text + after)


def _examples() -> str:
    files = sorted((ROOT / "docs" / "examples").glob("*.py"))
    return "\n".join(f"## {file.name}\n\n```python\n{file.read_text()}```\n" for file in files)


def _errors() -> str:
    """What a message begins with, what it means, and the class that Python code catches."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    rows = [
        (f"`{kind.problem}`", cell((kind.__doc__ or "").partition("\n\n")[0]), f"`{kind.__name__}`")
        for kind in kinds
        if issubclass(kind, errors.ClgymError) and kind is not errors.ClgymError
    ]
    return table(("the message begins with", "meaning", "in Python, `clgym.errors.`"), rows)


def _navigation(known: list[methods.Method]) -> str:
    """The methods of each family, as a list in TOML."""
    parts = ['"methods/index.md"']
    for family in methods.FAMILIES:
        pages = [f'"methods/{m.name}.md"' for m in known if m.family == family]
        parts.append(f'{{ "{family}" = [{", ".join(pages)}] }}')
    return f"[{', '.join(parts)}]"


if __name__ == "__main__":
    main()
