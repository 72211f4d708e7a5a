"""Names and sentences: class names are unique, and what people read stands alone.

Everything is read from the source by AST: no module is imported, and nothing needs a network.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("clgym", "strategies", "scenarios")
FILES = sorted(
    path
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if "templates" not in path.parts  # texts with $NAMES, not modules
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FRAGMENT = re.compile(r"^(Of|As|Who|Whose|At most|Below|With|That) ")
"""Beginnings of a phrase that needs the line above it to be understood."""
DIALECT = re.compile(
    r"\b(mend|mends|mended|told|so many|whoever|found out|settings by hand|no certificate|"
    r"(row|run)'s device is its own|line that can be read)\b",
    re.IGNORECASE,
)
"""Words of a private dialect; say repair, reported, number of, untuned, names the device."""
HELP = ("help", "description", "epilog")
MESSAGE = ("expected", "found", "fix")


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def text_of(node: ast.expr) -> str | None:
    """The literal text of an expression, with {} for what is filled in; None if there is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "{}" for part in node.values)
    return None


def attribute_texts(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """The docstrings below the fields of a class, or below the constants of a module."""
    for field, below in zip(body, body[1:], strict=False):
        if isinstance(field, ast.Assign | ast.AnnAssign) and isinstance(below, ast.Expr):
            text = text_of(below.value)
            if text is not None:
                yield below.lineno, " ".join(text.split())


def keyword_texts(tree: ast.Module, names: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Literal texts that are passed under one of the names, such as argparse's ``help=``."""
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            for keyword in call.keywords:
                # A fix may be "one text" or a choice of two: every literal inside counts.
                for node in ast.walk(keyword.value) if keyword.arg in names else ():
                    if isinstance(node, ast.expr) and (text := text_of(node)) is not None:
                        yield node.lineno, " ".join(text.split())


def fragments(text: str, constants: bool = False) -> Iterator[tuple[int, str]]:
    """Texts of fields, options and records that break a rule.

    Args:
        text: Source of a module.
        constants: Whether the module's constants count, too.
    """
    tree = ast.parse(text)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for body in [*bodies, *([tree.body] if constants else [])]:
        yield from filter(breaks_a_rule, attribute_texts(body))
    yield from filter(breaks_a_rule, keyword_texts(tree, HELP))


def breaks_a_rule(found: tuple[int, str]) -> bool:
    return bool(FRAGMENT.search(found[1]) or DIALECT.search(found[1]))


def test_a_public_class_name_is_unique():
    """Public classes of public modules; names that begin with an underscore are their file's own.

    One exemption: the class of a plugin is named after its file (`strategies/source.py` holds
    `Source`), and is addressed by the file's name, whatever classes the package has.
    """
    places = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                if path.parent.name in ROOMS[1:] and node.name.lower() == path.stem.replace(
                    "_", ""
                ):
                    continue
                places[node.name].append(place(path, node.lineno))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_help_and_fields_stand_alone():
    found = [
        f"{place(path, line)}: {text}"
        # A strategy's hash stands in committed records: only what users read is held to the rule.
        for path in FILES
        for line, text in fragments(path.read_text(), constants=path.parent.name not in ROOMS[1:])
    ]
    assert found == []


def test_messages_are_free_of_dialect():
    found = [
        f"{place(path, line)}: {text}"
        for path in FILES
        for line, text in keyword_texts(ast.parse(path.read_text()), MESSAGE)
        if DIALECT.search(text)
    ]
    assert found == []


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every docstring of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


ARGUMENT = re.compile(r"(?m)^ +\w+: (?=[A-Z])(.*)$")
"""Description of an argument in a docstring: its first line."""


def test_docstrings_stand_alone():
    found = [
        f"{place(path, line)}: {text}"
        for path in FILES
        if path.parent.name != "strategies"  # their hashes stand in committed records
        for line, whole in docstrings(ast.parse(path.read_text()))
        for text in (whole, *ARGUMENT.findall(whole))
        if FRAGMENT.search(text) or DIALECT.search(text)
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_free_of_dialect(page):
    lines = enumerate(page.read_text().splitlines(), start=1)
    assert [f"{place(page, n)}: {line}" for n, line in lines if DIALECT.search(line)] == []


@pytest.mark.parametrize(
    "source",
    [
        'class Config:\n    steps: int = 1\n    """At most so many."""\n',
        'class Config:\n    steps: int = 1\n    """Number of steps, as you are told."""\n',
        'parser.add_argument("--threads", help="Of a run. (default 1)")\n',
        'parser.add_argument("--x", help=f"Whose {name} it is.")\n',
        'LEVEL = 0.95\n"""Of the intervals."""\n',
    ],
)
def test_a_fragment_is_found(source):
    assert len(list(fragments(source, constants=True))) == 1


@pytest.mark.parametrize(
    "source",
    [
        'class Config:\n    steps: int = 1\n    """Maximum number of steps."""\n',
        'parser.add_argument("--threads", help="Number of threads per run. Offset: 1.")\n',
        '"""Of a module, whatever it says."""\n',
    ],
)
def test_a_phrase_that_stands_alone_is_not(source):
    assert list(fragments(source, constants=True)) == []


def test_every_error_says_in_words_what_is_wrong():
    """The command line prints the words in place of the class's name."""
    silent = [
        f"{place(path, node.lineno)}: {node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base) in ("ClgymError", "StrategyFailed") for base in node.bases)
        and not any(
            isinstance(field, ast.Assign) and ast.unparse(field.targets[0]) == "problem"
            for field in node.body
        )
    ]
    assert silent == []
