"""`clgym bench`: its options, its exit code, and one tiny measurement of each kind of side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clgym.bench import suite
from clgym.bench.learning import learning_cases
from clgym.bench.measure import Case, Measurement, interleaved
from clgym.bench.report import Report
from clgym.bench.stepped import plain_torch
from clgym.check.tiny import workspace
from clgym.cli._main import main


def report(ratio: float) -> Report:
    low, high = ratio - 0.01, ratio + 0.01
    return Report({}, (Measurement("a step", "bare loop", "ms", ratio, 1.0, ratio, low, high, 4),))


@pytest.mark.parametrize(("ratio", "code"), [(1.0, 0), (2.0, 1)])
def test_the_exit_code_says_whether_a_ratio_has_grown(
    ratio: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[Any] = []

    def measured(kinds: Sequence[str], **options: Any) -> Report:
        seen.append((kinds, options["quick"], options["device"]))
        return report(ratio)

    monkeypatch.setattr(suite, "measure", measured)
    report(1.0).save(tmp_path)
    words = ["bench", "--quick", "--only", "learning,programs", "--json"]
    assert main([*words, "--compare", str(tmp_path / "speed.json")]) == code
    assert seen == [(["learning", "programs"], True, "cpu")]
    assert f"1.000 -> {ratio:.3f} x bare loop: a step" in capsys.readouterr().err


def test_the_folder_of_the_figures_is_made_before_they_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "measure", lambda *_, **__: report(1.0))
    assert main(["bench", "--json", "--save", str(tmp_path / "a/b")]) == 0
    assert (tmp_path / "a/b/speed.md").is_file()

    def unreached(*_: object, **__: object) -> Report:
        raise AssertionError

    monkeypatch.setattr(suite, "measure", unreached)
    (tmp_path / "file").touch()
    assert main(["bench", "--save", str(tmp_path / "file")]) == 2
    assert "expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--only", "everything"], "none of learning"),
        (["--rounds", "0"], "at least one round"),
        (["--threads", "0"], "at least one thread"),
        (["--compare", "no-such-file.json"], "No such file"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    words: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert found in capsys.readouterr().err


def test_kinds_of_the_command_are_those_of_the_suite() -> None:
    from clgym.cli.bench import KINDS

    assert KINDS == suite.KINDS


@pytest.mark.slow
def test_a_step_is_measured_against_a_bare_loop_and_avalanche() -> None:
    with workspace() as folder:
        cases: list[Case] = next(learning_cases(folder, "cpu", 1, quick=True, steps=2))()
        found = [interleaved(case, 1, "cpu", plain_torch) for case in cases]
    assert [one.rival for one in found] == ["bare loop", "Avalanche's own loop"]
    assert all(one.ratio > 0 and one.ours > 0 for one in found)
