"""Which rows of a table a figure shows, and among which its ranks are."""

from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import rankdata

from clgym.board.page.charts import MOST_RANKED, protocol_chart, table_charts


def _row(name: str, tuning: float, mean: float) -> Any:
    scores = [SimpleNamespace(key=(seed, None), primary=mean + 0.01 * seed) for seed in (0, 1)]
    tuned = SimpleNamespace(score=tuning, trials=[tuning], seconds=1.0, mode="transfer")
    entry = SimpleNamespace(tuning=tuned, scores=scores, seconds=1.0)
    return SimpleNamespace(short_name=name, mean=mean, mode="transfer", entry=entry, interval=None)


def _table(count: int) -> Any:
    """Rows by their means; what tuning preferred is the reverse of it."""
    rows = [_row(f"method-{i}", tuning=i / 100, mean=1 - i / 100) for i in range(count)]
    return SimpleNamespace(
        name="a stream", rows=rows, modes=["transfer"], adaptation=True, with_mode=lambda _: rows
    )


@pytest.mark.parametrize("count", [2, 9, MOST_RANKED + 2])
def test_tuning_ranks_are_among_all_tuned_rows(count: int) -> None:
    table = _table(count)
    expected = rankdata([-row.entry.tuning.score for row in table.rows], method="min")
    whole = protocol_chart([table])
    assert whole is not None
    (own,) = [c for c in table_charts(table) if c.title.startswith("Tuning rank")]
    for chart in (whole, own):
        for row, rank in list(zip(table.rows, expected, strict=True))[:MOST_RANKED]:
            assert f">{rank}  {row.short_name}<" in chart.svg.replace("\xa0", " ")
        assert "Spearman's correlation of the ranks is -1.00 [-1.00, -1.00]" in chart.note
        assert f"over the {count} rows" in chart.note  # those that are not drawn included
        left_out = f"(first {MOST_RANKED} of {count} rows)"
        assert (left_out in chart.title) == (count > MOST_RANKED)
