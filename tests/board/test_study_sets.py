"""Several studies of one plan on the board: one row, their median."""

import shutil
import statistics
from pathlib import Path

import pytest

from clgym.board.reading.records import read_board
from clgym.engines.pool import PoolSpec
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.studies import evaluate_studies, tune_studies
from clgym.protocol.study import StudySpec

pytestmark = pytest.mark.slow


NAIVE = {"epochs": 1, "batch_size": 64}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Three evaluated studies, and the mean last accuracy of each; not to be changed."""
    out = tmp_path_factory.mktemp("sets") / "studies"
    asked = StudySpec("naive", find_pair("digits-t2"), config=NAIVE, trials=1, seeds=(0,))
    tune_studies(asked, 3, ExecutionOptions(out, PoolSpec()))
    found = evaluate_studies(out)
    return out, [statistics.mean(s.last_accuracy or 0 for s in e.seeds) for e in found]


@pytest.fixture
def studies(finished: tuple[Path, list[float]], board_folder: Path) -> Path:
    return Path(shutil.copytree(finished[0], board_folder / "records/paper/studies"))


def test_the_row_is_the_median_study_with_the_range(
    board_folder: Path, studies: Path, finished: tuple[Path, list[float]]
) -> None:
    board, means = read_board(board_folder), finished[1]
    (entry,) = board.entries
    shown = statistics.mean(score.primary for score in entry.scores)
    assert shown == pytest.approx(statistics.median(means))
    low, high = 100 * min(means), 100 * max(means)
    words = f"median of 3 studies; their last accuracy is {low:.2f} to {high:.2f} %"
    assert words in entry.flags and entry.verified
    assert not any("their median is the result" in flag for flag in entry.flags)
    assert len(board.left_out) == 2
    assert all("is the median" in left.reason for left in board.left_out)


def test_a_set_that_lacks_a_study_has_no_row(board_folder: Path, studies: Path) -> None:
    shutil.rmtree(studies / "study-2")
    board = read_board(board_folder)
    assert board.entries == []
    reasons = [left.reason for left in board.left_out]
    assert reasons == [
        f"study {number} of 3: without study 2 there is no median" for number in (1, 3)
    ]


def test_a_study_that_is_there_twice_is_no_other_one(board_folder: Path, studies: Path) -> None:
    shutil.rmtree(studies / "study-2")
    shutil.copytree(studies / "study-1", studies / "study-2")
    board = read_board(board_folder)
    assert board.entries == [] and len(board.left_out) == 3


def test_studies_by_themselves_have_rows_of_their_own(board_folder: Path, write_run) -> None:
    write_run(board_folder / "records/run")
    assert len(read_board(board_folder).entries) == 1
