"""Results above all that the project reached are named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from clgym.board.reading.records import read_board
from clgym.cli._console import Console
from clgym.cli._trials import show_evaluation
from clgym.protocol import bands as module
from clgym.protocol.bands import Band, above_band, bands
from clgym.protocol.outcome import Evaluation
from clgym.protocol.verify import verify

RECORDS = Path(__file__).parents[2] / "leaderboards/records"
STUDY = "exemplar-replay-lite-c50-v2-11d6a516"


def _stored(study: str) -> Evaluation:
    return Evaluation.model_validate_json(
        (RECORDS / study / "evaluations/1/evaluation.json").read_bytes()
    )


def _with(values: list[float | None]) -> Evaluation:
    """The stored evaluation with other accuracies, of as many seeds."""
    whole = _stored(STUDY)
    seeds = [whole.seeds[0].model_copy(update={"last_accuracy": value}) for value in values]
    return whole.model_copy(update={"seeds": seeds})


def _reference(monkeypatch: pytest.MonkeyPatch, values: tuple[float, ...]) -> None:
    pair = _stored(STUDY).pair_hash
    monkeypatch.setattr(module, "bands", lambda: {pair: Band("lite-c50-v2", pair, "own", values)})


@pytest.mark.parametrize("band", bands().values(), ids=lambda band: band.name)
def test_a_band_is_what_its_study_reached(band: Band) -> None:
    evaluation = _stored(band.study)
    assert (evaluation.pair, evaluation.pair_hash) == (band.name, band.pair)
    assert tuple(seed.last_accuracy for seed in evaluation.seeds) == band.last_accuracy
    assert above_band(evaluation) is None


@pytest.mark.parametrize("found", [[0.2, 0.21, 0.19], [0.23, 0.26, 0.3], [0.25, 0.24], [0.19, 0.2]])
def test_above_is_what_a_one_sided_welch_test_says(
    monkeypatch: pytest.MonkeyPatch, found: list[float | None]
) -> None:
    known = (0.18, 0.21, 0.2)
    _reference(monkeypatch, known)
    test: Any = stats.ttest_ind(found, known, equal_var=False, alternative="greater")
    assert (above_band(_with(found)) is not None) == (test.pvalue < 0.05)


@pytest.mark.parametrize(
    ("found", "above"),
    [
        ([0.3, 0.3], True),  # equal seeds have no deviation to divide by
        ([0.2, 0.2], False),
        ([0.19], False),
        ([0.21], True),
        ([None, None], False),
        ([0.01, 0.02], False),
    ],
)
def test_seeds_without_a_deviation_count_as_exact(
    monkeypatch: pytest.MonkeyPatch, found: list[float | None], above: bool
) -> None:
    _reference(monkeypatch, (0.2, 0.2))
    assert (above_band(_with(found)) is not None) == above


def test_a_pair_without_a_study_of_the_project_has_no_band(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "bands", dict)
    assert above_band(_with([1.0, 1.0])) is None


def test_a_result_above_the_band_is_named_by_audit_board_and_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It holds in every link; its file is as it was written."""
    _reference(monkeypatch, (0.01, 0.011))
    study = tmp_path / "board/records" / STUDY
    shutil.copytree(RECORDS / STUDY, study)
    words = "last accuracy is above the reference band of lite-c50-v2 (best own study: 1.05 %)"
    audit = verify(study)
    assert audit.problems == []
    assert sum(words in note for note in audit.notes) == 1
    (entry,) = read_board(tmp_path / "board").entries
    assert sum(words in flag for flag in entry.flags) == 1
    show_evaluation(Console(width=400), _stored(STUDY), study, adapts=False)
    assert words in capsys.readouterr().out
    file = study / "evaluations/1/evaluation.json"
    assert not any("reference band" in flag for flag in json.loads(file.read_text())["flags"])
