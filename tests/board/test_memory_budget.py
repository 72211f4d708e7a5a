"""The board shows a budget in bytes beside what a real run stored."""

from pathlib import Path

import pytest

import clgym
from clgym.board.page.tables import tables_of
from clgym.board.reading.records import read_board
from clgym.cli import main

SUMS = Path(__file__).resolve().parents[1] / "plugins" / "sums.py"


@pytest.mark.parametrize(
    ("budget", "cell", "flagged"),
    [(4000, "1.95 KiB of 3.91 KiB", False), (1000, "1.95 KiB of 1000 B", True)],
)
def test_the_cell_shows_bytes_stored_and_the_budget(
    budget: int, cell: str, flagged: bool, tmp_path: Path
) -> None:
    board = tmp_path / "board"
    record = clgym.run(
        str(SUMS),
        "split-digits",
        config={"budget": budget},
        engine="inline",
        threads=1,
        out=board / "records" / "run",
    )
    assert record.holdings is not None and record.holdings.budget_bytes == budget
    (table,) = tables_of(read_board(board))
    (row,) = table.rows
    assert cell in row.cells["memory"].text
    assert main(["board", str(board), "--out", str(tmp_path / "site")]) == 0
    page = (tmp_path / "site" / "index.html").read_text()
    assert cell in page
    assert any("bytes" in flag for flag in row.entry.flags) == flagged
