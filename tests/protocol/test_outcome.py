"""An evaluation as a table."""

import json
from pathlib import Path

from clgym.protocol.outcome import Evaluation, measured


def _evaluation(finished: Path) -> Evaluation:
    return Evaluation.model_validate_json((finished / "evaluations/1/evaluation.json").read_bytes())


def test_every_seed_then_mean_and_deviation(finished: Path) -> None:
    heads, rows = measured(_evaluation(finished), adapts=False)
    assert heads == ["last accuracy", "average incremental accuracy", "forgetting"]
    written = json.loads((finished / "evaluations/1/evaluation.json").read_text())
    assert rows[:-2] == [[seed[h.replace(" ", "_")] for h in heads] for seed in written["seeds"]]
    assert rows[-2] == [written["summary"][h.replace(" ", "_")]["mean"] for h in heads]


def test_adaptation_streams_are_summarised_by_their_error(finished: Path) -> None:
    heads, rows = measured(_evaluation(finished), adapts=True)
    accuracies = [seed.last_accuracy or 0.0 for seed in _evaluation(finished).seeds]
    assert heads == ["mean error"]
    assert rows[:-2] == [[1 - accuracy] for accuracy in accuracies]
    spread = _evaluation(finished).summary["last_accuracy"]
    assert rows[-2:] == [[1 - (spread.mean or 0.0)], [spread.std]]


def test_missing_measures_are_empty_cells_of_the_table(finished: Path) -> None:
    empty = _evaluation(finished).model_copy(update={"summary": {}})
    assert measured(empty, adapts=True)[1][-2:] == [[None], [None]]
