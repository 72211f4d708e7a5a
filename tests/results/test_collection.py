"""Records as rows, as HTML and as data frames."""

from xml.etree import ElementTree

import pytest

import clgym
from clgym.errors import MissingExtra
from clgym.results.collection import Records
from clgym.results.numerics import NumericFacts


@pytest.fixture
def three(write_stored, tmp_path):
    write_stored(tmp_path / "a/seed-0")
    write_stored(tmp_path / "a/seed-1", draw=1, seed=1)
    write_stored(tmp_path / "b", "adaptation")
    return clgym.records(tmp_path)


def test_records_are_a_list_found_at_any_depth(three, tmp_path):
    assert isinstance(three, list) and len(three) == 3
    assert [record.result.seed for record in three[:2]] == [0, 1]
    assert len(clgym.records(str(tmp_path / "a"), tmp_path / "b")) == 3


def test_one_row_for_each_run(three):
    rows = three.rows()
    assert len({tuple(row) for row in rows}) == 1  # the same columns
    for record, row in zip(three, rows, strict=True):
        assert row["seed"] == record.result.seed
        assert row["forgetting"] == record.result.forgetting
        assert row["option.lr"] == 0.1
    assert rows[0]["mean_error"] is None and rows[2]["mean_error"] is not None


def test_options_for_speed_are_a_column(three):
    """Runs that differ in them are not averaged with one another."""
    options = NumericFacts(evaluate_every=2, eval_batch=50)
    result = three[0].result.model_copy(update={"numerics": options})
    both = Records([three[0], three[0].model_copy(update={"result": result})])
    expected = [None, "--evaluate-every 2 --eval-batch 50"]
    for rows in (both.rows(), both.experience_rows()):
        found = {row["speed_options"] for row in rows}
        assert {None if text is None else frozenset(text.split()) for text in found} == {
            None if text is None else frozenset(text.split()) for text in expected
        }


def test_one_row_for_each_measured_cell(three):
    rows = Records(three[:1]).experience_rows()
    matrix = three[0].result.accuracy_matrix
    assert len(rows) == sum(value is not None for line in matrix for value in line)
    for row in rows:
        assert row["accuracy"] == matrix[row["after"] - 1][row["tested"] - 1]


def test_notebooks_show_text_and_obey_nothing(write_stored, tmp_path):
    strategy = {"name": "<script>&", "source_hash": "b" * 64, "config": {}}
    write_stored(tmp_path / "a", strategy=strategy)
    records = clgym.records(tmp_path)
    for shown in (records._repr_html_(), records[0]._repr_html_()):
        assert "<script>" not in shown
        assert "<script>&" in "".join(ElementTree.fromstring(shown).itertext())
        assert f"{records[0].result.last_accuracy:.4f}" in shown


def test_a_data_frame_needs_pandas(three, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"clgym\[pandas\]"):
        three.to_pandas()


def test_data_frames(three):
    pandas = pytest.importorskip("pandas")
    frame = three.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 3
    assert list(three.experiences_to_pandas().columns)[-3:] == ["after", "tested", "accuracy"]


def test_tab_completion_shows_the_functions():
    names = dir(clgym)
    assert {"records", "table", "compare", "plot", "tune", "evaluate", "verify"} <= set(names)
    assert all(callable(getattr(clgym, name)) for name in clgym.__all__ if name != "__version__")
