"""Lines and envelopes that no phase of a study writes, in ledgers and certificates that agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clgym.files import sha256
from clgym.protocol.verify import verify
from forged import Lines, chain, lines_of


def sealed_again(study: Path, lines: Lines, envelope: dict[str, Any]) -> list[str]:
    """Problems after a change of the ledger's lines and the envelope, with all hashes anew."""
    chain(study, lines)
    place = next(n for n, line in enumerate(lines) if line["kind"] == "sealed")
    path = study / "certificate.json"
    content = json.loads(path.read_text())
    content["envelope"] |= {"ledger_head": lines_of(study)[place]["prev"], **envelope}
    path.write_text(json.dumps(content))
    lines[place]["body"]["certificate"] = sha256(path.read_bytes())
    chain(study, lines)
    return verify(study).problems


ENVELOPES = {
    "sealed_at": 0.0,
    "wall_seconds": 1.0,
    "sessions": 2,
    "retries": 1,
    "engine": "inline",
    "workers": 99,
    "ledger_head": "0" * 64,
}


@pytest.mark.parametrize(("name", "value"), ENVELOPES.items())
def test_an_envelope_that_does_not_follow_from_the_ledger_is_found(
    copy: Callable, name: str, value: object
) -> None:
    study = copy()
    words = f"certificate.json: envelope.{name} does not follow from the ledger"
    assert words in sealed_again(study, lines_of(study), {name: value})


@pytest.mark.parametrize("wrong", [{"study_number": 0}, {"evaluations_before": -1}])
def test_counts_of_studies_in_the_envelope_are_counts(copy: Callable, wrong: dict) -> None:
    study = copy()
    words = "certificate.json: envelope.study_number or envelope.evaluations_before is no count"
    assert words in sealed_again(study, lines_of(study), wrong)


@pytest.mark.parametrize("change", [{"study_number": 3}, {"evaluations_before": 2}, {}])
def test_an_envelope_with_other_counts_holds(copy: Callable, change: dict) -> None:
    """How many studies there were is known to the registry alone."""
    study = copy()
    problems = sealed_again(study, lines_of(study), change)
    assert [p for p in problems if p.startswith("certificate.json")] == []


CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("session", {"workers": 1.0}, "workers: Input should be a valid integer"),
    ("session", {"workers": 0}, "workers: Input should be greater than or equal to 1"),
    ("session", {"workers": 10**80}, "workers: Input should be less than or equal to"),
    ("session", {"engine": "<b>process"}, "engine: Input should be"),
    ("session", {"more": 1}, "more: Extra inputs are not permitted"),
    ("sealed", {"more": 1}, "more: Extra inputs are not permitted"),
    ("opened", {"more": 1}, "more: Extra inputs are not permitted"),
    ("evaluated", {"more": 1}, "more: Extra inputs are not permitted"),
    ("evaluated", {"reason": "an invention"}, "a reason without an error"),
    ("evaluated", {"record": None}, "an error beside a result, or neither of them"),
    ("complete", {"more": 1}, "more: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("kind", "change", "words"), CHANGES)
def test_a_line_that_no_phase_writes_is_found(
    copy: Callable, kind: str, change: dict[str, Any], words: str
) -> None:
    study = copy()
    lines = lines_of(study)
    number = next(n for n, line in enumerate(lines, 1) if line["kind"] == kind)
    lines[number - 1]["body"] |= change
    chain(study, lines)
    problems = verify(study).problems
    told = f"lines of the ledger: line {number}: {words}"
    assert any(problem.startswith(told) for problem in problems), problems


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("retry", {"key": "runs/trial-000/seed-0", "reason": "killed"}),
        ("run", {"key": "runs/trial-000/seed-0", "status": "failed"}),
    ],
)
def test_no_run_ends_before_its_trial_starts(
    copy: Callable, kind: str, body: dict[str, Any]
) -> None:
    study = copy()
    lines = lines_of(study)
    lines.insert(1, {"kind": kind, "time": lines[0]["time"], "body": body})
    chain(study, lines)
    words = "line 2 is of runs/trial-000/seed-0, which was not started before"
    assert f"lines of the ledger: {words}" in verify(study).problems


def test_a_line_of_a_run_says_what_its_record_says_and_nothing_else(copy: Callable) -> None:
    study = copy()
    lines = lines_of(study)
    run = next(line for line in lines if line["kind"] == "run")
    run["body"] |= {"read_files": {"helper.py": "1" * 64}, "more": 1}
    chain(study, lines)
    problems = verify(study).problems
    for name in ("read_files", "more"):
        assert f"{run['body']['key']}: {name} is not what the ledger says" in problems


def test_a_time_that_is_no_number_is_found(copy: Callable) -> None:
    study = copy()
    lines = lines_of(study)
    lines[-1]["time"] = "noon"
    chain(study, lines)
    words = f"lines of the ledger: line {len(lines)}: time is no number"
    assert words in verify(study).problems


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("evaluations/1/evaluation.json", "summary"),
        ("certificate.json", "envelope"),
        ("evaluations/1/seed-*/record.json", "result"),
        ("runs/trial-001/seed-0/record.json", "result"),
    ],
)
def test_a_file_that_says_two_things_under_one_name_is_found(
    copy: Callable, pattern: str, name: str
) -> None:
    """Readers of JSON take the first or the last one."""
    study = copy()
    path = next(study.glob(pattern))
    content = path.read_text()
    path.write_text(f'{{"{name}": {{}},{content.lstrip()[1:]}')
    assert any(f"the key '{name}' more than once" in p for p in verify(study).problems)
