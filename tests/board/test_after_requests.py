"""What the board says of requests to forget, from records that are committed."""

from pathlib import Path

import numpy as np
import pytest

from clgym.board.page.after_requests import measures_after_requests
from clgym.board.page.tables import tables_of
from clgym.board.reading.records import read_board
from clgym.results.stored import open_run

LEADERBOARDS = Path(__file__).resolve().parents[2] / "leaderboards"
RUNS = sorted(LEADERBOARDS.glob("records/ssd-deletion-digits-*/seed-*"))


def test_each_measure_is_the_mean_over_the_requests_of_a_run() -> None:
    """Against the block of the record as it is written, read by hand."""
    results = [open_run(folder).result for folder in RUNS]
    found = measures_after_requests(results)
    for place, result in enumerate(results):
        requests = result.model_dump()["deletion"]["requests"]
        assert len(requests) == 2
        for ours, theirs in (
            ("forgotten", "forgotten_accuracy"),
            ("retained", "retained_accuracy"),
            ("membership", "membership_auc"),
        ):
            expected = np.mean([request["after"][theirs] for request in requests])
            assert found[ours][place] == pytest.approx(expected)
        distances = [request["distance"]["disagreement_forgotten"] for request in requests]
        assert found["distance"][place] == pytest.approx(np.mean(distances))


def test_without_a_reference_there_is_no_distance() -> None:
    """As of the references themselves."""
    folders = sorted(LEADERBOARDS.glob("records/retrain-deletion-digits-*/seed-*"))
    found = measures_after_requests([open_run(folder).result for folder in folders])
    assert found["distance"] == [None] * 3


def test_the_table_of_such_a_stream_shows_them_beside_the_accuracy_before() -> None:
    (table,) = [t for t in tables_of(read_board(LEADERBOARDS)) if t.title == "deletion-digits"]
    titles = {column.key: column.title for column in table.columns}
    assert "before the requests" in titles["score"]
    assert {"forgotten", "retained", "membership", "distance"} < titles.keys()
    rows = {row.entry.strategy: row.cells["forgotten"].text for row in table.rows}
    assert rows["replay with retrain"] == rows["s3t"] == "0.00"
