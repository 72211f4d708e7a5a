"""The first screen: the matrix of methods by streams, links, papers, and the file of all runs."""

import csv
import io
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clgym.board.page.download import as_csv
from clgym.board.page.links import Links
from clgym.board.page.overview import doubts_about, measure_of, overview_of
from clgym.board.page.references import cited_in
from clgym.board.page.tables import tables_of
from clgym.board.reading.entries import BY_HAND, Board, Tuning
from clgym.board.reading.records import read_board
from clgym.board.stats import ranks
from clgym.cli import main

LEADERBOARDS = Path(__file__).resolve().parents[2] / "leaderboards"


@pytest.fixture(scope="module")
def committed():
    return tables_of(read_board(LEADERBOARDS))


def _mean(folder: Path) -> float:
    """The mean last accuracy of the runs below a folder, read by hand."""
    records = [json.loads(file.read_text()) for file in folder.rglob("record.json")]
    return float(np.mean([record["result"]["last_accuracy"] for record in records]))


def test_modes_of_one_stream_stand_in_one_table(committed):
    """A method by its defaults stands beside one that was tuned, and both are ranked."""
    (table,) = [table for table in committed if table.title == "lite-c50"]
    rows = {row.entry.strategy: row for row in table.rows}
    assert (rows["nmc"].mode, rows["replay"].mode) == ("default", "transfer")
    assert [row.entry.strategy for row in table.rows][:2] == ["nmc", "replay"]
    assert [rows[name].cells["score"].text.split()[0] for name in ("nmc", "replay")] == [
        "17.80",
        "15.87",
    ]
    assert [rows[name].cells["mode"].text for name in ("nmc", "replay")] == ["default", "transfer"]
    values = [{s.key: s.primary for s in row.entry.scores} for row in table.rows]
    assert [row.rank for row in table.rows] == ranks(values)


def _tables_in_modes(board_folder, write_run, modes):
    """A table whose rows have these modes, best first; each with three seeds."""
    for number, mode in enumerate(modes):
        for seed in range(3):
            right = 9 - 2 * number
            folder = board_folder / f"records/{mode}-{number}/seed-{seed}"
            write_run(folder, hits=((9, None), (right, 8 - seed)), seed=seed, strategy=f"m{number}")
    board = read_board(board_folder)
    order = {f"m{number}": mode for number, mode in enumerate(modes)}
    for place, entry in enumerate(board.entries):
        mode = order[entry.strategy]
        if mode != BY_HAND:
            tuning = Tuning(mode, "pair", 0.5, (0.5,), 1.0, {})
            object.__setattr__(board.entries[place], "tuning", tuning)
    return tables_of(board)


def test_rows_that_looked_at_the_evaluation_stream_have_no_rank(board_folder, write_run):
    (table,) = _tables_in_modes(board_folder, write_run, ("oracle", "transfer", "default"))
    assert [row.mode for row in table.rows] == ["oracle", "transfer", "default"]
    assert [row.cells["rank"].text for row in table.rows] == ["–", "1", "2"]
    assert table.modes == ("transfer", "default", "oracle")
    (line,) = [line for line in overview_of([table]).lines if line.method == "m0"]
    assert line.cells == (None,) and line.doubtful == (True,)


@pytest.mark.parametrize(
    ("modes", "names"),
    [
        (("transfer", "oracle"), ["m", "m oracle"]),
        (("transfer", "transfer"), ["m lr 0", "m lr 1"]),
        (("default", "oracle"), ["m lr 0", "m lr 1"]),  # else `default` would be unnamed
        (("transfer", "oracle", "oracle"), ["m lr 0", "m lr 1", "m lr 2"]),
    ],
)
def test_rows_of_one_strategy_are_told_apart_by_their_modes_if_these_differ(
    board_folder, write_run, modes, names
):
    for number in range(len(modes)):
        folder = board_folder / f"records/{number}/seed-0"
        hits = ((9, None), (9 - 2 * number, 8))
        write_run(folder, hits=hits, strategy="m", config={"lr": number})
    board = read_board(board_folder)
    for place, entry in enumerate(board.entries):
        tuning = Tuning(modes[int(str(entry.config["lr"]))], "pair", 0.5, (0.5,), 1.0, {})
        object.__setattr__(board.entries[place], "tuning", tuning)
    (table,) = tables_of(board)
    assert [row.name for row in table.rows] == names


def test_rows_of_one_such_mode_alone_are_ranked(board_folder, write_run):
    (table,) = _tables_in_modes(board_folder, write_run, ("oracle", "oracle"))
    assert [row.cells["rank"].text for row in table.rows] == ["1", "2"]


def test_runs_by_hand_are_not_ranked_against_studies(board_folder, write_run):
    tables = _tables_in_modes(board_folder, write_run, ("transfer", BY_HAND))
    assert [table.modes for table in tables] == [("transfer",), (BY_HAND,)]


def test_a_cell_is_the_best_verified_number(board_folder, write_run):
    """Against the records of each folder, read by hand."""
    for strategy, variant, right in (("a", 1, 3), ("a", 2, 6), ("b", 1, 9), ("c", 1, 2)):
        for seed in range(2):
            folder = board_folder / f"records/{strategy}{variant}/seed-{seed}"
            hits = ((9, None), (right, 8 - seed))
            write_run(folder, hits=hits, seed=seed, strategy=strategy, config={"lr": variant})
    write_run(board_folder / "records/claimed", strategy="c", config={"lr": 9}, predictions=False)
    write_run(board_folder / "records/bare", strategy="d", predictions=False)
    write_run(board_folder / "records/inline", strategy="e", engine="inline")
    (table,) = tables_of(read_board(board_folder))
    matrix = overview_of([table])
    cells = {line.method: line.cells[0] for line in matrix.lines}
    places = {"a": "a2", "b": "b1", "c": "c1"}
    means = {name: _mean(board_folder / "records" / place) for name, place in places.items()}
    low, high = min(means.values()), max(means.values())
    for name, mean in means.items():
        cell = cells[name]
        assert cell is not None
        assert cell.text == f"{100 * mean:.1f}"
        assert cell.shade == pytest.approx((mean - low) / (high - low), abs=1e-3)
        assert cell.anchor in {row.anchor for row in table.rows if row.entry.strategy == name}
        assert cell.note == ("best of 2" if name == "a" else "")
    assert cells["d"] is None and cells["e"] is None
    assert {line.method for line in matrix.lines if line.doubtful[0]} == {"d", "e"}
    assert measure_of(table) == "accuracy, untuned"


def test_every_cell_of_the_board_leads_to_the_best_row_of_its_method(committed):
    matrix = overview_of(committed)
    for line, (place, table) in itertools.product(matrix.lines, enumerate(matrix.columns)):
        own = [row for row in table.rows if row.entry.strategy == line.method]
        honest = [row for row in own if not doubts_about(row)]
        cell = line.cells[place]
        if cell is None:
            assert not honest and line.doubtful[place] == bool(own)
            continue
        best = max(honest, key=lambda row: row.mean or 0.0)
        assert cell.anchor == best.anchor
        assert best.mean is not None
        shown = 1 - best.mean if table.adaptation else best.mean
        assert cell.text == f"{100 * shown:.1f}"


def test_a_learner_that_hoards_does_not_count(board_folder, write_run, edit):
    run = write_run(board_folder / "records/hoard", strategy="hoard")

    def keep(record):
        record["conduct"] = {
            "memory_capacity": 0,
            "memory_bytes": 0,
            "image_numbers": 192,
            "kept_images": {"strategy.bank": 30},
        }

    edit(run / "record.json", keep)
    (table,) = tables_of(read_board(board_folder))
    assert doubts_about(table.rows[0]) == ["the learner kept more than it declared"]


def test_warnings_of_all_rows_stand_above_the_table_once(board_folder, write_run):
    write_run(board_folder / "records/a", strategy="a", source_flags=["shared", "own"])
    write_run(board_folder / "records/b", strategy="b", source_flags=["shared"])
    (table,) = tables_of(read_board(board_folder))
    assert "shared" in table.shared_flags and "own" not in table.shared_flags
    for row in table.rows:
        texts = set(row.cells["flags"].text.split("; ")) - {""}
        assert texts | set(table.shared_flags) == set(row.entry.flags)
        assert not texts & set(table.shared_flags)


def test_the_file_of_all_numbers_has_a_line_for_each_run(committed):
    lines = list(csv.DictReader(io.StringIO(as_csv(committed))))
    files = [
        json.loads((LEADERBOARDS / line["folder"] / "record.json").read_text()) for line in lines
    ]
    assert len(lines) == sum(len(row.entry.scores) for table in committed for row in table.rows)
    assert len({line["folder"] for line in lines}) == len(lines)
    for line, record in zip(lines, files, strict=True):
        assert int(line["seed"]) == record["result"]["seed"]
        result = record["result"]
        for name, known in (("last_accuracy", result), ("mean_error", result.get("adaptation"))):
            if known and name in known:
                assert float(line[name]) == known[name]
        assert float(line["wall_seconds"]) == record["cost"]["wall_seconds"]


def test_no_text_of_the_file_is_carried_out_by_a_spreadsheet(board_folder, write_run):
    write_run(board_folder / "records/a", strategy="=HYPERLINK(1)", config={"x": "@SUM(1)"})
    text = as_csv(tables_of(read_board(board_folder)))
    (line,) = csv.DictReader(io.StringIO(text))
    assert line["strategy"] == "'=HYPERLINK(1)" and line["option.x"] == "'@SUM(1)"


def test_an_empty_board_has_an_empty_file():
    assert as_csv(tables_of(Board())).strip() == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"A title", CVPR 2017 (arXiv 1611.07725), as', ("arXiv 1611.07725", 2017)),
        ('Li et al. 2023, "Its title (a part)" (arXiv 2308.04014);', ("arXiv 2308.04014", 2023)),
        ("Tent, ICLR 2021, https://arxiv.org/abs/2006.10726. B", ("arXiv 2006.10726", 2021)),
        ("x, ECCV 2020 (https://doi.org/10.1007/978-3_31).", ("doi 10.1007/978-3_31", 2020)),
        ("BEEF, ICLR\n2023; as others (arXiv 2403.09066)", ("ICLR 2023", 2023)),
        ("The protocol (arXiv 2403.09066) and PyCIL", ("arXiv 2403.09066", 2024)),
        ("Plain training on each experience in turn.", ("", None)),
    ],
)
def test_the_first_citation_of_a_docstring_is_its_paper(text, expected):
    found = cited_in(text)
    assert (found.name, found.year) == expected
    address = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
    kind, _, number = found.name.partition(" ")
    assert found.link == (address[kind] + number if kind in address else "")


def test_links_are_those_that_were_given(board_folder, write_run, tmp_path):
    write_run(board_folder / "records/a")
    words = ["--repository", "https://example.org/code", "--docs", "https://example.org/docs"]
    assert main(["board", str(board_folder), "--out", str(tmp_path / "site"), *words]) == 0
    text = (tmp_path / "site/index.html").read_text()
    for address in ("https://example.org/code", "https://example.org/docs/submitting/"):
        assert f'href="{address}"' in text
    assert (tmp_path / "site/board.csv").read_text().count("\n") == 2


def test_without_addresses_the_page_says_how_to_submit():
    assert Links().named == [("How to submit", "#submit"), ("All numbers as CSV", "board.csv")]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "ftp://a.org"])
def test_an_address_that_a_browser_would_run_is_refused(board_folder, tmp_path, capsys, address):
    words = ["board", str(board_folder), "--out", str(tmp_path / "site"), "--docs", address]
    assert main(words) == 2
    assert "--docs" in capsys.readouterr().err


def test_addresses_of_the_installed_package_are_taken(monkeypatch):
    urls = ["Repository, https://example.org/code", "Documentation, https://example.org/docs"]
    metadata = SimpleNamespace(get_all=lambda name: urls if name == "Project-URL" else None)
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: metadata)
    assert Links.of_installation() == Links("https://example.org/code", "https://example.org/docs")
    assert Links.of_installation(docs="").docs == ""
