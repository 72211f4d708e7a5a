"""Trials without a process of their own or without a sandbox leave a flag on the evaluation."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.board.page.overview import doubts_about
from clgym.board.page.tables import tables_of
from clgym.board.reading.entries import Board
from clgym.board.reading.studies import add_study
from clgym.engines.pool import PoolSpec
from clgym.files import canonical_json, sha256
from clgym.protocol.conditions import condition_problems, lacks_of
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import START, LedgerEntry, read_ledger
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, read_certificate, tune
from clgym.protocol.verify import verify
from factories import copy_plugin

FLAG = "tuned without a process of its own for the learner"


def _without(flag: str, file: Path) -> None:
    """Remove a flag from an evaluation, and hash the rest anew."""
    facts = json.loads(file.read_text())
    facts["flags"].remove(flag)
    facts["hash"] = sha256(canonical_json({k: v for k, v in facts.items() if k != "hash"}))
    file.write_text(json.dumps(facts))


@pytest.mark.slow
def test_a_winner_that_the_environment_names_during_tuning_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, out = copy_plugin("heeds_variable", tmp_path), tmp_path / "records" / "study"
    asked = StudySpec("heeds-variable", find_pair("digits-t2"), trials=3, seeds=(0,))
    monkeypatch.setenv("WINNER", "0.5")
    certificate = tune(asked, ExecutionOptions(out, PoolSpec("inline"), plugins=(plugin,)))
    assert certificate.body.chosen[0].configs == ({"value": 0.5},)
    monkeypatch.delenv("WINNER")
    monkeypatch.setenv("CLGYM_WITHHELD", "[]")
    assert FLAG in evaluate(out, PoolSpec(), plugins=(plugin,)).flags
    assert verify(out).problems == []
    board = Board()
    add_study(board, tmp_path, out)
    ((row,),) = (table.rows for table in tables_of(board))
    assert FLAG in doubts_about(row)
    _without(FLAG, out / "evaluations/1/evaluation.json")
    assert any("flags does not follow" in problem for problem in verify(out).problems)


def _ledger(*lines: tuple[str, dict[str, object]]) -> list[LedgerEntry]:
    return [LedgerEntry.of(n, START, kind, 0.0, body) for n, (kind, body) in enumerate(lines)]


ALONE = ("session", {"engine": "process", "sandbox": "auto"})
SHARED = ("session", {"engine": "inline", "sandbox": "auto"})
OPEN = ("session", {"engine": "process", "sandbox": "none"})
TRIAL = ("trial", {})
FAILED = ("run", {"status": "failed"})
SHUT = ("run", {"engine": "process", "sandbox": "landlock 7: files"})
BARE = ("run", {"engine": "process", "sandbox": "none"})
INSIDE = ("run", {"engine": "inline", "sandbox": "none"})


@pytest.mark.parametrize(
    ("lines", "lacks"),
    [
        ((ALONE, TRIAL, SHUT), ()),
        ((ALONE, TRIAL, BARE), ("sandbox",)),
        ((SHARED, TRIAL, INSIDE), ("process",)),
        ((SHARED, FAILED, ALONE, SHUT), ("process",)),
        ((SHARED, TRIAL, ALONE, SHUT), ("process",)),
        ((SHARED, ALONE, TRIAL, SHUT), ()),
        ((ALONE, TRIAL, INSIDE), ("process",)),
        ((OPEN, FAILED, SHARED, FAILED), ("process", "sandbox")),
    ],
    ids=[
        "sandboxed",
        "a machine without a sandbox",
        "one process",
        "trials that failed in one process",
        "killed in one process",
        "nothing was run in one process",
        "finished by a later session",
        "both",
    ],
)
def test_each_run_counts_and_each_session_that_ran_something(
    lines: tuple[tuple[str, dict[str, object]], ...], lacks: tuple[str, ...]
) -> None:
    assert lacks_of(_ledger(*lines)) == lacks


def test_the_certificate_must_say_what_the_ledger_says(finished: Path, copy: Callable) -> None:
    entries, certificate = read_ledger(finished / "ledger.jsonl"), read_certificate(finished)
    assert certificate.envelope.trials_without == lacks_of(entries)
    envelope = certificate.envelope.model_copy(update={"trials_without": ("process",)})
    changed = certificate.model_copy(update={"envelope": envelope})
    assert [*condition_problems(changed, entries)] == [
        "envelope.trials_without does not follow from the ledger"
    ]
    study = copy()
    (study / "certificate.json").write_text(json.dumps(changed.model_dump(mode="json")))
    assert any("trials_without does not follow" in problem for problem in verify(study).problems)
