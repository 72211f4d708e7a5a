"""Ways to a better number than one has earned that no other file here tries out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clgym.engines.pool import PoolSpec
from clgym.engines.process import ProcessChannel
from clgym.errors import BadOutput, GymFailed, StrategyFailed
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.protocol import evaluation, jobs
from clgym.protocol.ledger import read_ledger
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune
from clgym.protocol.verify import verify
from factories import copy_plugin

HERE = PoolSpec("inline")


def unfinished(folder: Path) -> Path:
    """Take the evaluation's runs out of a study again; it stays opened."""
    shutil.rmtree(folder / "evaluations")
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    opened = next(i for i, line in enumerate(lines) if b'"kind":"opened"' in line)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[: opened + 1]))
    return folder


def test_scores_never_cross_to_the_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early stopping on test rows: nothing that is sent tells how well an answer was."""
    sent: list[dict[str, Any]] = []
    ask = ProcessChannel.ask

    def listen(channel: Any, message: dict[str, Any], on_event: Any) -> dict[str, Any]:
        sent.append({k: v for k, v in message.items() if k not in ("rows", "labels", "where")})
        return ask(channel, message, on_event)

    monkeypatch.setattr(ProcessChannel, "ask", listen)
    result = run(Request("nmc", "split-digits", out=tmp_path / "run")).result
    text = json.dumps(sent, default=str)
    scores = {v for row in result.accuracy_matrix for v in row if v not in (None, 1.0)}
    assert len(scores) > 8
    assert not [score for score in scores if repr(score) in text]
    assert "label" not in text.replace('"home_labels"', "")


def test_a_strategy_is_not_told_which_data_it_learns(tmp_path: Path) -> None:
    """Settings by data set: neither its name, nor its classes, nor how long it goes on."""
    report = tmp_path / "report"
    plugin = copy_plugin("nosy", tmp_path, REPORT=report)
    orders = []
    for seed in (1, 2):
        request = Request("nosy", "split-digits", order_seed=seed, out=tmp_path / str(seed))
        outside = {"plugins": (plugin,), "sandbox": "none"}  # it writes its report there
        run(Request(**{**vars(request), **outside}))
        orders.append([line for line in report.read_text().splitlines() if "Info" in line])
        told = report.read_text()
        report.unlink()
        assert told.count("Experience") == 5 and "Batch" in told
        assert "digits" not in told and "split" not in told
    assert orders[0] == orders[1], "a class order can be told from what is known beforehand"


def test_a_failed_seed_is_shown_and_none_is_left_out(
    copy: Callable[[], Path], plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unfinished(copy())
    plan = json.loads((folder / "certificate.json").read_text())["body"]["plan"]
    unlucky, whole = plan["evaluation_seeds"][0], jobs.run

    def fails(request: Request, emit: Any) -> Any:
        if request.seed == unlucky:
            raise StrategyFailed(expected="it to work", found="bad luck", fix="Nothing")
        return whole(request, emit)

    monkeypatch.setattr(jobs, "run", fails)
    result = evaluation.evaluate(folder, HERE, plugins=(plugin,))
    assert [seed.status for seed in result.seeds] == ["failed", "done"]
    assert result.summary["last_accuracy"].mean is None
    assert "1 of 2 seeds failed" in result.flags
    monkeypatch.undo()
    with pytest.raises(Exception, match="1 complete evaluation"):
        evaluation.evaluate(folder, HERE, plugins=(plugin,))


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (BadOutput(expected="space", found="none", fix="Free some"), BadOutput),
        (FileNotFoundError("a folder that another process deleted"), GymFailed),
        (MemoryError(), GymFailed),
    ],
)
def test_a_full_disk_is_no_failed_seed(
    error: Exception,
    named: type[Exception],
    copy: Callable[[], Path],
    plugin: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = unfinished(copy())

    def fails(request: Request, emit: Any) -> Any:
        raise error

    monkeypatch.setattr(jobs, "run", fails)
    with pytest.raises(named):
        evaluation.evaluate(folder, HERE, plugins=(plugin,))
    assert not [e for e in read_ledger(folder / "ledger.jsonl") if e.kind == "evaluated"]
    monkeypatch.undo()
    result = evaluation.evaluate(folder, HERE, plugins=(plugin,))
    assert [seed.status for seed in result.seeds] == ["done", "done"]
    assert verify(folder).problems == []


def test_a_run_that_is_begun_again_after_an_error_is_counted(tmp_path: Path) -> None:
    """A strategy could raise an error of the gym until it likes what it got."""
    unlucky = tmp_path / "unlucky"
    plugin = copy_plugin("gambles", tmp_path, UNLUCKY=str(unlucky))
    folder = tmp_path / "study"
    asked = StudySpec("gambles", find_pair("digits-t2"), mode="default", seeds=(0, 1))
    tune(asked, ExecutionOptions(folder, HERE, plugins=(plugin,)))
    for _ in range(2):
        unlucky.touch()
        with pytest.raises(BadOutput):
            evaluation.evaluate(folder, HERE, plugins=(plugin,))
    unlucky.unlink()
    result = evaluation.evaluate(folder, HERE, plugins=(plugin,))
    flag = "2 runs were ended without a result and begun again: BadOutput"
    assert flag in result.flags and [seed.status for seed in result.seeds] == ["done", "done"]
    assert verify(folder).problems == []
    text = folder / "evaluations/1/evaluation.json"
    text.write_text(text.read_text().replace(flag, "nothing"))
    assert any("flags" in problem for problem in verify(folder).problems)


def test_other_code_or_packages_are_flagged(
    copy: Callable[[], Path], plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = unfinished(copy()), evaluation.code_identity()
    packages = {**now.packages, "torch": "0.0"}
    monkeypatch.setattr(
        evaluation, "code_identity", lambda: now.model_copy(update={"packages": packages})
    )
    flags = evaluation.evaluate(folder, HERE, plugins=(plugin,)).flags
    assert "packages changed since tuning" in flags and "tree changed since tuning" not in flags


def test_a_space_of_one_setting_is_flagged(
    tmp_path: Path,
    plugin: Path,
    asked: Callable,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Values borrowed from elsewhere, in the dress of a study."""
    space = tmp_path / "space.json"
    space.write_text('{"power": [2.0]}')
    out = tmp_path / "study"
    tune(asked(space=str(space), trials=2), ExecutionOptions(out, HERE, plugins=(plugin,)))
    monkeypatch.setenv("CLGYM_WITHHELD", "[]")  # as in a process that did not tune
    flag = "one setting was tried: nothing was tuned"
    assert flag in evaluation.evaluate(out, HERE, plugins=(plugin,)).flags
    honest = json.loads((finished / "evaluations/1/evaluation.json").read_text())
    assert flag not in honest["flags"]
