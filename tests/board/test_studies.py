"""Evaluations on the board: one real study, and what becomes of it when something is changed."""

import json
import shutil
from pathlib import Path

import pytest

from clgym.board.page.tables import tables_of
from clgym.board.reading.entries import BY_HAND
from clgym.board.reading.records import read_board
from clgym.engines.pool import PoolSpec
from clgym.protocol.evaluation import evaluate
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune

NAIVE = {"epochs": 1, "batch_size": 64}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 2 trials and 2 seeds, evaluated; not to be changed."""
    out = tmp_path_factory.mktemp("board") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_WITHHELD", "[]")
        asked = StudySpec("naive", find_pair("digits-t2"), config=NAIVE, trials=2, seeds=(0, 1))
        tune(asked, ExecutionOptions(out, PoolSpec(engine="inline")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_WITHHELD", "[]")
        evaluate(out, PoolSpec(engine="inline"))
    return out


@pytest.fixture
def study(finished: Path, board_folder: Path) -> Path:
    return Path(shutil.copytree(finished, board_folder / "records/paper/study"))


def _seeds(study: Path) -> list[Path]:
    return sorted((study / "evaluations/1").glob("seed-*"))


def test_an_evaluation_is_a_row_of_the_board_and_its_trials_are_not(board_folder, study):
    board = read_board(board_folder)
    (entry,) = board.entries
    assert not board.left_out
    assert entry.tuning is not None and entry.tuning.mode == "transfer"
    assert entry.verified
    assert "gym and learner shared a process" in entry.flags
    assert len(entry.scores) == 2 and len(entry.tuning.trials) == 2
    ledger = [json.loads(line) for line in (study / "ledger.jsonl").read_text().splitlines()]
    spent = sum(line["body"]["seconds"] for line in ledger if line["kind"] == "run")
    assert entry.tuning.seconds == pytest.approx(spent)


def test_untuned_runs_have_a_table_of_their_own(board_folder, study, write_run):
    write_run(board_folder / "records/run")
    tables = tables_of(read_board(board_folder))
    assert [table.modes for table in tables] == [("transfer",), (BY_HAND,)]


def _edited_certificate(study, edit):
    edit(study / "certificate.json", lambda value: value["body"]["chosen"][0].update(score=0.99))


def _edited_evaluation(study, edit):
    def change(value):
        value["seeds"][0]["last_accuracy"] = 0.99

    edit(study / "evaluations/1/evaluation.json", change)


def _lost_seed(study, edit):
    shutil.rmtree(_seeds(study)[0])


def _dropped_seed(study, edit):
    edit(study / "evaluations/1/evaluation.json", lambda value: value["seeds"].pop())


def _edited_record(study, edit):
    edit(_seeds(study)[0] / "record.json", lambda r: r["result"].update(last_accuracy=0.99))


def _cut_ledger(study, edit):
    lines = (study / "ledger.jsonl").read_text().splitlines(keepends=True)
    (study / "ledger.jsonl").write_text("".join(lines[:2] + lines[3:]))


def _other_predictions(study, edit):
    (_seeds(study)[0] / "predictions.safetensors").write_bytes(b"others")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_edited_certificate, "certificate.json: "),
        (_edited_evaluation, "evaluation.json is not the file in the ledger"),
        (_lost_seed, "its record is missing"),
        (_dropped_seed, "evaluation 1: "),
        (_edited_record, "record"),
        (_cut_ledger, "ledger.jsonl: "),
        (_other_predictions, "does not hash to result.predictions.sha256"),
    ],
)
def test_an_edited_study_is_refused(board_folder, study, edit, change, reason):
    change(study, edit)
    board = read_board(board_folder)
    assert not board.entries
    assert {left.place for left in board.left_out} == {"records/paper/study"}
    assert any(reason in left.reason for left in board.left_out)


def test_without_predictions_an_evaluation_is_self_reported(board_folder, study):
    for seed in _seeds(study):
        (seed / "predictions.safetensors").unlink()
    board = read_board(board_folder)
    assert not board.left_out
    assert [entry.verified for entry in board.entries] == [False]


def test_without_its_tuning_runs_an_evaluation_is_self_reported(board_folder, study):
    shutil.rmtree(study / "runs")
    board = read_board(board_folder)
    assert not board.left_out
    assert [entry.verified for entry in board.entries] == [False]


def test_a_certificate_without_its_ledger_is_refused(board_folder, study):
    (study / "ledger.jsonl").unlink()
    board = read_board(board_folder)
    assert not board.entries
    assert board.left_out[0].reason == "a certificate without its ledger"


def test_an_evaluation_by_itself_is_refused(board_folder, study):
    alone = Path(shutil.copytree(study / "evaluations/1", board_folder / "records/alone"))
    shutil.rmtree(study)
    board = read_board(board_folder)
    assert not board.entries
    assert [left.place for left in board.left_out] == [f"records/{alone.name}"]
