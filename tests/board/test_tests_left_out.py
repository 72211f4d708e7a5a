"""Runs that did not test every experience: a dash and the reason, never a number or a false 0."""

import json
import re
import shutil
from pathlib import Path

import pytest

from clgym.board.figures import drawing, outcomes
from clgym.board.figures.plots import draw
from clgym.board.page.render import render
from clgym.board.reading.found import load_runs
from clgym.board.report.run_sections import sections
from clgym.board.summary.sides import compare_all
from clgym.board.summary.table import summarize
from clgym.cli import main
from clgym.errors import BadRecord
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.collection import Records
from clgym.results.compare import Comparison
from clgym.results.stored import open_run

WORDS: dict[int | str, str] = {
    2: "tested after every 2 experiences and the last",
    "last": "tested only after the last experience",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of nmc that tested every experience, every second one, and the last one."""
    folder = tmp_path_factory.mktemp("runs")
    request = {"strategy": "nmc", "scenario": "split-digits", "engine": "inline", "threads": 1}
    for every in (1, 2, "last"):
        run(Request(**request, evaluate_every=every, out=folder / f"{every}"))  # type: ignore[arg-type]
    return folder


def test_a_table_has_a_dash_and_says_why(folder: Path) -> None:
    table = summarize(load_runs([folder]), measures=["last", "average", "forgetting"])
    rows = {name: next((w for k, w in WORDS.items() if f" {k}" in name), "") for name in table.rows}
    assert sorted(rows.values()) == ["", *sorted(WORDS.values())]
    for name, words in rows.items():
        found = [(name, "split-digits", m) in table.cells for m in ("average", "forgetting")]
        assert found == [not words] * 2
        assert not words or [note for note in table.notes if name in note and words in note]
    assert {cell.mean for (_, _, m), cell in table.cells.items() if m == "last"} == {0.9}
    assert table.render("markdown").count("| – | – |") == 2


def test_a_comparison_says_why_a_measure_is_missing(folder: Path) -> None:
    found = compare_all([folder / "1", folder / "last"])
    assert isinstance(found, Comparison)
    assert found.average is None and found.last is not None and found.last.mean == 0
    assert found.notes == [f"average incremental accuracy not compared: B was {WORDS['last']}"]
    with pytest.raises(BadRecord, match=WORDS[2]):
        compare_all([folder / "1", folder / "2", folder / "last"], "average")


def test_lines_pass_over_experiences_without_a_test(folder: Path) -> None:
    result = open_run(folder / "2").result
    (curve,) = drawing.anytime({"nmc": [result.accuracy_after]}).axes[0].lines
    after = [100 * value for value in result.accuracy_after if value is not None]
    assert curve.get_xdata().tolist() == [2, 4, 5]  # type: ignore[union-attr]
    assert curve.get_ydata().tolist() == pytest.approx(after)  # type: ignore[union-attr]
    lines = outcomes.task_accuracy([result.accuracy_matrix] * 2).axes[0].lines
    places = [line.get_xdata().tolist() for line in lines]  # type: ignore[union-attr]
    assert places == [[2, 4, 5], [2, 4, 5], [4, 5], [4, 5], [5]]


def test_a_single_test_gives_no_curve(folder: Path) -> None:
    kinds = [plot.kind for plot in draw(load_runs([folder / "last"]))]
    assert kinds == ["accuracy-matrix", "confusion-matrix", "last-accuracy"]
    for plot in draw(load_runs([folder])):
        plot.draw()


def test_the_board_flags_them_and_draws_no_curve(folder: Path, tmp_path: Path) -> None:
    for one in folder.iterdir():
        shutil.copytree(one, tmp_path / "board" / "records" / one.name)
    board = render(tmp_path / "board", tmp_path / "site")
    assert not board.left_out
    flags = [[flag for flag in entry.flags if flag in WORDS.values()] for entry in board.entries]
    assert sorted(flags) == [[], *([words] for words in WORDS.values())]
    page = (tmp_path / "site" / "index.html").read_text()
    (data,) = re.findall(r"<script[^>]*application/json[^>]*>(.*?)</script>", page, re.S)
    entries = [entry for entry in json.loads(data).values() if "matrix" in entry]
    assert len(entries) == 3
    for entry in entries:
        whole = all(any(v is not None for v in row) for row in entry["matrix"])
        assert ("after" in entry) == whole
        (row,) = entry["runs"]["body"]
        assert row[1] == "90.00" and (row[2:4] == ["–", "–"]) == (not whole)
    text = (tmp_path / "board" / "README.md").read_text()
    assert all(words in text for words in WORDS.values())


def test_a_report_and_a_terminal_say_why(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    parts = sections(load_runs([folder / "last"])[0])[0].parts
    assert [part.text for part in parts if part.kind == "note"] == [  # type: ignore[union-attr]
        f"The learner was {WORDS['last']}: measures over all experiences are missing."
    ]
    assert main(["show", str(folder / "last")]) == 0
    assert capsys.readouterr().out.count(f"none ({WORDS['last']})") == 4


def test_rows_for_other_programs_have_no_value(folder: Path) -> None:
    records = Records(open_run(folder / f"{every}").record for every in (1, 2, "last"))
    averages = [row["average_incremental_accuracy"] for row in records.rows()]
    assert [value is None for value in averages] == [False, True, True]
    assert [row["after"] for row in Records(records[2:]).experience_rows()] == [5] * 5
    assert "nan" not in records.to_html().lower()
