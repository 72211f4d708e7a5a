"""Habits of the code and of the tests themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

from factories import PLUGINS

TESTS = Path(__file__).parent
ROOMS = ("clgym", "strategies", "scenarios")
UNTYPED = "dict[str, Any]"


def test_plugins_of_tests_are_files_and_not_strings() -> None:
    """A class in a string is seen by no formatter, no linter and no search for its name."""
    found = []
    for path in TESTS.rglob("*.py"):
        if PLUGINS in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            text = getattr(node, "value", None)
            if isinstance(text, str) and "\nclass " in text and "from clgym" in text:
                found.append(f"{path.relative_to(TESTS)}:{node.lineno}")  # type: ignore[attr-defined]
    assert found == []


def _untyped(room: str) -> Iterator[tuple[str, str]]:
    """Place of each dict whose values have no type, and the lines where its reason may stand."""
    for path in sorted((TESTS.parent / room).rglob("*.py")):
        lines = ["", *path.read_text().splitlines(), ""]
        for number, line in enumerate(lines):
            if UNTYPED in line:
                around = f"{lines[number - 1]}\n{line}\n{lines[number + 1]}"
                yield f"{path.relative_to(TESTS.parent)}:{number}", around


def test_few_dicts_have_values_without_a_type() -> None:
    """There were 269 of them, and what the two sides of a run say was among them."""
    found = [place for room in ROOMS for place, _ in _untyped(room)]
    assert len(found) < 40, found


def test_a_dict_whose_values_have_no_type_says_why() -> None:
    """In a comment, or in the docstring below it; strategies have theirs from the base class."""
    silent = [
        place
        for place, around in _untyped("clgym")
        if "# " not in around and "``Any``" not in around
    ]
    assert silent == []


def test_files_and_functions_are_short() -> None:
    """At most 400 lines a file and 60 a function, so that each can be read at one go."""
    files, functions = set(), set()
    for path in (path for room in ROOMS for path in (TESTS.parent / room).rglob("*.py")):
        text, place = path.read_text(), str(path.relative_to(TESTS.parent))
        if len(text.splitlines()) > 400:
            files.add(place)
        defined = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
        long = [n for n in defined if (n.end_lineno or 0) - n.lineno >= 60]
        functions |= {f"{place}:{n.lineno} {n.name}" for n in long}
    assert (files, functions) == (set(), set())
