"""Strategies registered from Python, or named by file and class: workers find them again."""

import subprocess
import sys
from pathlib import Path

import pytest

from clgym import registry
from clgym.errors import BadPlugin
from clgym.scenario import Scenario
from clgym.strategy import Strategy
from factories import copy_plugin


def test_a_file_with_several_is_named_with_its_class(tmp_path: Path) -> None:
    file = copy_plugin("two", tmp_path)
    first, second = Path(f"{file}:FirstMean"), Path(f"{file}:SecondMean")
    found = registry.entries("strategies", [first, second])
    assert registry.load_class(found["first-mean"], Strategy).__name__ == "FirstMean"
    assert registry.load_class(found["second-mean"], Strategy).__name__ == "SecondMean"
    assert "own-stream" not in found
    stream = registry.find("scenarios", "own-stream", [Path(f"{file}:OwnStream")])
    assert registry.load_class(stream, Scenario).__name__ == "OwnStream"
    with pytest.raises(BadPlugin, match="FirstMean, SecondMean"):
        registry.load_class(registry.find("strategies", "two", [file]), Strategy)


def _script(folder: Path, guard: str) -> subprocess.CompletedProcess[str]:
    script = copy_plugin("experiment", folder)
    script.write_text(script.read_text().replace('if __name__ == "__main__":', guard))
    return subprocess.run(
        [sys.executable, "experiment.py"], cwd=folder, capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_script_registers_its_class_and_runs_it(tmp_path: Path) -> None:
    done = _script(tmp_path, 'if __name__ == "__main__":')
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[1]) > 0.8


@pytest.mark.slow
def test_a_script_without_guard_is_refused_by_name_and_starts_no_flood(tmp_path: Path) -> None:
    done = _script(tmp_path, "if True:")
    assert done.returncode == 1
    assert 'if __name__ == "__main__"' in done.stderr


def test_a_class_without_a_file_is_refused() -> None:
    cls = type("Nowhere", (Strategy,), {"__module__": "__console__"})
    with pytest.raises(BadPlugin, match="%%writefile"):
        registry.register("strategies", cls)
