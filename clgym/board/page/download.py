"""Everything on the board as one CSV file: a line for each run, at full precision."""

import csv
import io
from collections.abc import Sequence

from clgym.board.page.tables import BoardRow, BoardTable
from clgym.board.reading.entries import Score
from clgym.results.collection import Records

__all__ = ["as_csv"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet read a text as a formula."""


def as_csv(tables: Sequence[BoardTable]) -> str:
    """Return a line for each run of each row, in the order of the tables.

    Accuracies and errors are fractions. The first columns are those of the row that the run belongs
    to; the others are those of `clgym.results.collection.Records.rows`.
    """
    runs = [
        (table, row, score) for table in tables for row in table.rows for score in row.entry.scores
    ]
    details = Records([score.record for _, _, score in runs]).rows()
    lines = [{**_about_row(*run), **detail} for run, detail in zip(runs, details, strict=True)]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in line.items()} for line in lines)
    return file.getvalue()


def _about_row(table: BoardTable, row: BoardRow, score: Score) -> dict[str, object]:
    low, high = row.interval or (None, None)
    return {
        "table": table.name,
        "row": row.anchor,
        "tuning": row.mode,
        "row_last_accuracy": row.mean,
        "row_low": low,
        "row_high": high,
        "rank_low": row.rank and row.rank.low,
        "rank_high": row.rank and row.rank.high,
        "tuning_score": row.entry.tuning and row.entry.tuning.score,
        "trust": row.cells["trust"].text,
        "paper": row.link,
        "warnings": "; ".join(row.entry.flags),
        "folder": score.place,
    }


def _plain(value: object) -> object:
    """The value of a cell; a text that a spreadsheet would execute gets a quote in front."""
    if isinstance(value, str):
        text = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(value.split()))
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value
