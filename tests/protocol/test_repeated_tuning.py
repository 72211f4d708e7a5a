"""Runs of the tuning are repeated, too, as they were carried out: with the other side closed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from clgym.engines.pool import PoolSpec
from clgym.errors import MissingData
from clgym.files import canonical_json, sha256
from clgym.protocol import jobs, repeat
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import Ledger
from clgym.protocol.replay import Replay
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import read_certificate, tune
from clgym.protocol.verify import verify
from clgym.results.stored import open_run
from forged import chain, lines_of, perfect


def replay_of(study: Path) -> Replay:
    return Replay(read_certificate(study).body.plan, study)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Messages to workers that repeat runs; nothing is carried out, and the results agree."""
    messages: list[dict[str, Any]] = []

    def gather(workers: object, given: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        messages.extend(message for _, message in given)
        return {}

    monkeypatch.setattr(repeat, "gather", gather)
    return messages


def repeated(study: Path, count: Any, head: str, plugin: Path, monkeypatch: Any) -> list[str]:
    """Keys of the runs of the tuning that a head draws."""
    monkeypatch.setattr(repeat, "_folder", lambda request: study / _key(str(request.out)))
    where, notes = ExecutionOptions(study, plugins=(plugin,)), list[str]()
    assert [*repeat.repeat_tuning(study, replay_of(study), count, head, where, notes)] == []
    return notes[0].partition("tuning: ")[2].split(", ")


def _key(out: str) -> str:
    return out[out.index("runs/") :]


def test_the_head_draws_a_run_of_the_chosen_trial_and_of_another(
    finished: Path, plugin: Path, sent: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chosen,) = read_certificate(finished).body.chosen[0].trials
    draws = set()
    for number in range(60):
        head = sha256(str(number).encode())
        keys = repeated(finished, 1, head, plugin, monkeypatch)
        assert [key.startswith(f"runs/trial-{chosen:03}/") for key in keys] == [True, False]
        draws |= set(keys)
    every = {entry.body["key"] for entry in Ledger(finished).of("run")}
    assert draws == every, "a run that no head draws is safe from being repeated"
    assert set(repeated(finished, "all", "a" * 64, plugin, monkeypatch)) == every


def test_the_evaluation_side_is_closed_while_tuning_is_repeated(
    finished: Path, plugin: Path, sent: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated(finished, 1, "a" * 64, plugin, monkeypatch)
    plan = read_certificate(finished).body.plan
    assert len(sent) == 2
    for message in sent:
        (rule,) = message["withhold"]
        assert rule["fingerprint"] == plan.evaluation.fingerprint
        assert tuple(rule["classes"]) == (5, 6, 7, 8, 9)
        record = open_run(finished / _key(message["request"]["out"])).record
        assert message["request"]["order_key"] == record.environment.order_key
        assert message["request"]["score_on"] == "valid"


def test_tuning_images_that_are_not_here_are_said_and_are_no_problem(
    finished: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(*_: object) -> None:
        raise MissingData(expected="digits", found="no such folder", fix="Fetch them")

    monkeypatch.setattr(repeat, "gather", gather)
    where, notes = ExecutionOptions(finished, plugins=(plugin,)), list[str]()
    replay = replay_of(finished)
    assert [*repeat.repeat_tuning(finished, replay, "all", "a" * 64, where, notes)] == []
    assert notes[-1] == "no run of the tuning could be repeated here: no such folder"


def test_a_run_that_continues_others_is_repeated_with_them(
    tmp_path: Path, plugin: Path, asked: Callable, sent: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    where = ExecutionOptions(study, PoolSpec("inline"), plugins=(plugin,))
    tune(asked(mode="current_task", trials=2, seeds=(0,)), where)
    keys = repeated(study, "all", "a" * 64, plugin, monkeypatch)
    assert len(keys) == 4 and len(sent) == 6
    assert all(message["withhold"] == [] for message in sent), "it is tuned on the evaluation side"
    chosen, others = repeat._by_choice(replay_of(study))
    trials = read_certificate(study).body.chosen[0].trials
    assert chosen == [
        f"runs/experience-{t}/trial-{trial:03}/seed-0" for t, trial in enumerate(trials)
    ]
    assert len(others) == 2


@pytest.mark.slow
def test_an_invented_trial_does_not_survive_a_repeat(
    copy: Callable, plugin: Path, asked: Callable
) -> None:
    """All answers of a trial's runs right, everything sealed anew: it is chosen and verifies."""
    study = copy()
    kinds = ("plan", "session", "trial", "run")
    lines = [line for line in lines_of(study) if line["kind"] in kinds]
    (chosen,) = read_certificate(study).body.chosen[0].trials
    lie = f"runs/trial-{((chosen or 0) + 1) % 3:03}"
    (study / "certificate.json").unlink()
    (study / "evaluations").rename(study.parent / "before")
    for line in lines:
        if line["kind"] == "run" and line["body"]["key"].startswith(lie):
            perfect(study / line["body"]["key"])
            summary = jobs.run_summary(open_run(study / line["body"]["key"]))
            line["body"] |= json.loads(canonical_json(summary))
    chain(study, lines)
    where = ExecutionOptions(study, PoolSpec(), plugins=(plugin,))
    assert tune(asked(), where).body.chosen[0].trials != (chosen,)
    evaluate(study, PoolSpec(), plugins=(plugin,))
    assert verify(study).problems == []
    (problem,) = verify(study, rerun=1, plugins=(plugin,)).problems
    assert problem.startswith(f"tuning repeated: {lie}/seed-")
    assert problem.endswith(": another result")


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"mode": "current_task"}, {"pruner": "median"}])
def test_runs_that_continue_others_are_repeated_with_equal_results(
    tmp_path: Path, plugin: Path, asked: Callable, changed: dict[str, Any]
) -> None:
    study = tmp_path / "study"
    where = ExecutionOptions(study, PoolSpec(), plugins=(plugin,))
    tune(asked(**changed, trials=2, seeds=(0,)), where)
    evaluate(study, PoolSpec(), plugins=(plugin,))
    audit = verify(study, rerun="all", plugins=(plugin,))
    assert audit.problems == []
    assert any("of the tuning: runs/" in note for note in audit.notes)
