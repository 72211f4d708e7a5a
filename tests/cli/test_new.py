"""`clgym new` writes files that pass `clgym check` as they stand."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from clgym.cli import main, new


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["strategy", "scenario", "source"])
def test_a_new_file_passes_its_checks_and_its_test(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()  # a folder of the user's by that name
    assert main(["new", kind, "my-own"]) == 0
    ast.parse((tmp_path / "my_own.py").read_text())
    assert main(["check", "my_own.py"]) == 0
    out = capsys.readouterr().out
    assert "FAIL" not in out and "passed" in out
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.slow
@pytest.mark.parametrize("kind", new.STRATEGIES[1:])
def test_every_kind_of_strategy_is_a_method_that_conforms(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "strategy", "my-own", "--kind", kind]) == 0
    capsys.readouterr()
    assert main(["check", "my_own.py"]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines() if line[:2] == "  "} <= {"ok", "-"}, out
    assert main(["show", "my_own.py"]) == 0


def test_a_kind_of_strategy_is_no_kind_of_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "scenario", "my-own", "--kind", "sgd"]) == 2
    assert "--kind with a strategy only" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_invalid_plugin_names_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, problem in (
        ("nmc", "duplicate name"),
        ("2nd", "invalid option"),
        ("class", "invalid option"),
    ):
        assert main(["new", "strategy", name]) == 2
        assert problem in capsys.readouterr().err
    (tmp_path / "taken.py").write_text("")
    assert main(["new", "strategy", "taken"]) == 2
    assert "cannot use the folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.glob("*.py")] == ["taken.py"]


def test_check_of_an_unknown_name_shows_near_matches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "replai"]) == 2
    assert "'replay'" in capsys.readouterr().err


def test_check_of_a_broken_file_names_its_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    assert main(["check", str(tmp_path / "broken.py")]) == 2
    assert "no_such_module" in capsys.readouterr().err


def test_check_says_what_each_check_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nmc", "--list"]) == 0
    assert "past-data" in capsys.readouterr().out
    assert main(["check", "nmc", "--only", "past-date"]) == 2
    assert "'past-data'" in capsys.readouterr().err
