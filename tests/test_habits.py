"""Habits of the tests themselves."""

import ast
from pathlib import Path

from factories import PLUGINS

TESTS = Path(__file__).parent


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
