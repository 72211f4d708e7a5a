"""The list of attacks, the tests that make them and the page that shows them agree."""

import ast
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def red_team() -> ModuleType:
    spec = importlib.util.spec_from_file_location("red_team", ROOT / "benchmarks" / "red_team.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["red_team"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def functions(file: str) -> set[str]:
    """Names of the test functions of a file."""
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_attack_names_its_test_or_its_paragraph(red_team: ModuleType) -> None:
    for attack in red_team.attacks():
        assert attack.promise in red_team.PROMISES and attack.outcome in red_team.OUTCOMES
        if attack.outcome == "documented":
            assert attack.test is None
            text = " ".join((ROOT / "docs" / attack.page).read_text().split())
            assert attack.said in text, f"{attack.page} does not say {attack.said!r}"
            continue
        file, _, name = attack.test.partition("::")
        assert name.partition("[")[0] in functions(file), f"no test {attack.test}"


def test_no_attack_is_listed_twice(red_team: ModuleType) -> None:
    tried = Counter(attack.tries for attack in red_team.attacks())
    tests = Counter(attack.test for attack in red_team.attacks() if attack.test)
    assert [name for name, count in (*tried.items(), *tests.items()) if count > 1] == []
    assert len(tried) >= 60


def test_the_page_shows_the_list(red_team: ModuleType) -> None:
    """`python benchmarks/red_team.py --write` writes it."""
    page = (ROOT / "docs" / "red-team.md").read_text()
    assert page == red_team.with_table(page)


@pytest.mark.slow
def test_pytest_finds_every_test_with_its_parameters(red_team: ModuleType) -> None:
    tests = [attack.test for attack in red_team.attacks() if attack.test]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", *tests]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]


def test_an_attack_that_is_not_stopped_is_told(red_team: ModuleType) -> None:
    outcomes, attack = red_team.Outcomes(), red_team.Attack("board", "x", "detected", "t.py::test")
    assert outcomes.of(attack) == "did not hold"
    outcomes.by_node = {
        "t.py::test[1]": "passed",
        "t.py::test[2]": "passed",
        "t.py::tests": "failed",
    }
    assert outcomes.of(attack) == "held"
    outcomes.by_node["t.py::test[3]"] = "skipped"
    assert outcomes.of(attack) == "not tried here"
    outcomes.by_node["t.py::test[4]"] = "failed"
    assert outcomes.of(attack) == "did not hold"
