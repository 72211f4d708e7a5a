"""No module but the one reader opens a run's record or its predictions: told from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import clgym

PACKAGE = Path(clgym.__file__).parent
NAMES = ("record.json", "predictions.safetensors")
NUMPY_READERS = {"results/predictions.py", "gym/session.py", "gym/inside.py"}
"""The last two read what they wrote of a run that is not finished."""


def texts(tree: ast.Module) -> Iterator[str]:
    """Text constants that are no docstring."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def reads(node: ast.AST) -> bool:
    """Whether a call opens a file that `RECORD`, `PREDICTIONS` or a record's field names."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func).rpartition(".")[2]
    if called not in ("read_bytes", "read_text", "open", "load_file", "file_sha256"):
        return False
    named = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return bool(named & {"RECORD", "PREDICTIONS"}) or "predictions.file" in ast.unparse(node)


def breaches(source: str, place: str) -> set[str]:
    """What in a module's source is the one reader's business."""
    tree, found = ast.parse(source), set()
    for text in texts(tree):
        if any(text == name or text.endswith(f"/{name}") for name in NAMES):
            found.add(f"names {text}")
    for node in ast.walk(tree):
        if reads(node):
            found.add(f"reads {ast.unparse(node)}")
        if isinstance(node, ast.Attribute):
            whole = ast.unparse(node)
            if whole.startswith("Record.model_validate"):
                found.add("parses a record")
            if whole.endswith("predictions.sha256"):
                found.add("checks the hash of predictions")
        arrays = isinstance(node, ast.ImportFrom) and node.module == "safetensors.numpy"
        if arrays and place not in NUMPY_READERS:
            found.add("reads arrays")
    return found


ALLOWED = {
    "results/layout.py": {f"names {name}" for name in NAMES},
    "results/predictions.py": {"checks the hash of predictions"},
    "results/stored.py": {"parses a record"},
}


def test_only_the_one_reader_opens_records_and_predictions() -> None:
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE).as_posix()
        if here := breaches(file.read_text(encoding="utf-8"), place):
            found[place] = here
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('(folder / "record.json").read_bytes()', "names record.json"),
        ('sorted(path.glob("*/record.json"))', "names */record.json"),
        ("sha256((out / RECORD).read_bytes())", "reads (out / RECORD).read_bytes()"),
        ("answers = load_file(folder / PREDICTIONS)", "reads load_file(folder / PREDICTIONS)"),
        ("load_file(folder / result.predictions.file)", "reads load_file(folder / result.pre"),
        ("sha256(data) == result.predictions.sha256", "checks the hash of predictions"),
        ("Record.model_validate_json(data)", "parses a record"),
        ("from safetensors.numpy import load", "reads arrays"),
    ],
)
def test_every_way_to_open_them_by_oneself_is_found(source: str, words: str) -> None:
    assert any(breach.startswith(words) for breach in breaches(source, "board/some.py"))


def test_naming_the_files_to_a_user_or_in_a_docstring_is_no_reading() -> None:
    source = '"""About\n\nrecord.json"""\nhelp = "Output folder of a run, or its record.json."'
    assert breaches(source, "cli/some.py") == set()
