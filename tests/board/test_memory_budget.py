"""The board shows a budget in bytes beside what a real run stored."""

from pathlib import Path

import pytest

import clgym
from clgym.board.page.tables import tables_of
from clgym.board.reading.records import read_board
from clgym.cli import main

LINES = '''"""Keeps sums of pixels that no prediction depends on."""

import torch

from clgym.strategy import Needs, Strategy


class Sums(Strategy):
    """One parameter a class, and statistics beside them."""

    @property
    def needs(self):
        return Needs(memory_bytes=BUDGET)

    def setup(self, info):
        super().setup(info)
        self.weights, self.statistics = torch.zeros(10), torch.zeros(500)

    def train(self, experience):
        for batch in experience.batches(100):
            self.statistics[experience.index] += batch.images.sum()

    def predict(self, batch):
        logits = batch.images.flatten(1).sum(1, keepdim=True) * self.weights[None]
        return logits[:, : 2 * int((self.statistics != 0).sum())]
'''


@pytest.mark.parametrize(
    ("budget", "cell", "flagged"),
    [(4000, "1.95 KiB of 3.91 KiB", False), (1000, "1.95 KiB of 1000 B", True)],
)
def test_the_cell_shows_bytes_stored_and_the_budget(
    budget: int, cell: str, flagged: bool, tmp_path: Path
) -> None:
    (tmp_path / "sums.py").write_text(LINES.replace("BUDGET", str(budget)))
    record = clgym.run(
        str(tmp_path / "sums.py"), "split-digits", engine="inline", threads=1, out=tmp_path / "run"
    )
    assert record.holdings is not None and record.holdings.budget_bytes == budget
    (table,) = tables_of(read_board(tmp_path))
    (row,) = table.rows
    assert cell in row.cells["stored"].text
    assert main(["board", str(tmp_path / "run"), "--out", str(tmp_path / "site")]) == 0
    page = (tmp_path / "site" / "index.html").read_text()
    assert cell in page
    assert any("bytes" in flag for flag in row.entry.flags) == flagged
