"""The page on architecture tells the truth: its arrows are imports, its files are there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
GROUND = {
    "arguments",
    "engines",
    "registry",
    "config",
    "draws",
    "files",
    "codec",
    "attributes",
    "subclassing",
    "classifier",
    "checksums",
    "errors",
    "text",
}


def arrows() -> set[tuple[str, str]]:
    """Solid arrows of the picture, as (importer, imported)."""
    picture = PAGE.split("```mermaid", 1)[1].split("```", 1)[0]
    found = set()
    for line in picture.splitlines():
        if "-->" in line:
            left, right = (re.sub(r"\[.*?\]", "", side) for side in line.split("-->"))
            found |= {(a.strip(), b.strip()) for a in left.split("&") for b in right.split("&")}
    return found


def room(module: str) -> str:
    name = module.split(".")[1] if module.count(".") else ""
    return "ground" if name in GROUND else name


def imports() -> set[tuple[str, str]]:
    """Imports between rooms, read from the code."""
    found = set()
    for place in ("clgym", "strategies", "scenarios"):
        for file in (ROOT / place).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            here = room(".".join(parts if place == "clgym" else ("clgym", *parts)))
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clgym"):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                    found |= {(here, room(name)) for name in names}
    return found


def test_every_arrow_is_an_import() -> None:
    assert len(arrows()) > 15
    assert arrows() <= imports()


def test_every_room_has_a_box() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    floors = settings["contracts"][0]["layers"]
    rooms = {name for floor in floors for name in re.findall(r"\w+", floor)}
    boxes = set(re.findall(r"(\w+)\[", PAGE))
    hidden = {"__main__", "_version", "_checkout", "_moved"}
    assert rooms - GROUND - hidden == boxes - {"ground", "plugins", "sides"}


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`([\w./]+\.(?:py|toml))`", PAGE))))
def test_every_file_is_there(file: str) -> None:
    if "my_" in file:
        pytest.skip("a file that a reader would add")
    assert any((ROOT / place / file).is_file() for place in (".", "clgym"))
