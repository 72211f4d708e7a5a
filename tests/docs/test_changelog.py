"""The changelog and the fragments that the next release takes into it."""

import re
import tomllib
from pathlib import Path

import clgym

ROOT = Path(__file__).resolve().parent.parent.parent
FRAGMENTS = ROOT / "changelog.d"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
KINDS = {kind["directory"]: kind["name"] for kind in PROJECT["tool"]["towncrier"]["type"]}


def test_the_changelog_has_a_section_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$", text, re.MULTILINE)
    assert versions and versions[0] == clgym.__version__
    assert text.index("<!-- towncrier release notes start -->") < text.index(f"## {versions[0]}")


def test_every_fragment_has_a_kind_and_something_to_say() -> None:
    for path in FRAGMENTS.iterdir():
        if path.name == "README.md":
            continue
        assert re.fullmatch(rf"(\d+|\+[\w-]+)(\.{'|.'.join(KINDS)})\.md", path.name), path.name
        text = path.read_text().strip()
        assert text and not text.startswith("-"), path.name


def test_the_table_of_kinds_is_the_one_that_towncrier_reads() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| ([^|]+) \|", (FRAGMENTS / "README.md").read_text(), re.M)
    assert dict(rows) == KINDS
