"""The overview: methods by streams, in each cell the best number that may be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from clgym.board.page.tables import BLIND_MODES, BoardRow, BoardTable
from clgym.board.reading.entries import BY_AUTHOR, BY_HAND
from clgym.protocol.study_flags import LACKS
from clgym.results.record import Record

__all__ = [
    "DOUBTFUL",
    "Overview",
    "OverviewCell",
    "OverviewLine",
    "doubts_about",
    "measure_of",
    "overview_of",
]

DOUBTFUL = "○"
"""Mark of a method whose rows in a table all do not count in the overview."""
_UNSEEN = (*BLIND_MODES, BY_HAND, BY_AUTHOR)
"""Modes without tuning on the evaluation stream."""


@dataclass(frozen=True)
class OverviewCell:
    """The best number of a method on a stream among those that may be compared."""

    text: str
    note: str
    """Mode of a row with a certificate, and the number of the method's rows of which it is the
    best.
    """
    anchor: str
    """Anchor of the row within the page."""
    shade: float
    """Shade in [0, 1]: 0 for the worst number of the column, 1 for the best."""


@dataclass(frozen=True)
class OverviewLine:
    """One method."""

    method: str
    cells: tuple[OverviewCell | None, ...]
    """By column; None where no row of the method has a number that counts here."""
    doubtful: tuple[bool, ...]
    """By column, whether the method has rows there of which none counts."""


@dataclass(frozen=True)
class Overview:
    """The matrix: columns are tables, in their order."""

    columns: tuple[BoardTable, ...]
    lines: tuple[OverviewLine, ...]


def doubts_about(row: BoardRow) -> list[str]:
    """Reasons why a row's number does not count in the overview, although its table shows it."""
    records = [score.record for score in row.entry.scores]
    reasons = {
        "a run is missing": row.mean is None,
        "it is self-reported": not row.entry.verified,
        "tuning looked at the evaluation stream": row.mode not in _UNSEEN,
        "its options were set by hand": row.mode == BY_AUTHOR,
        "gym and learner shared a process": any(r.environment.engine == "inline" for r in records),
        LACKS["process"]: LACKS["process"] in row.entry.flags,
        "it was scored on training rows": any(r.result.scored_on != "test" for r in records),
        "only part of the stream was run": any(r.result.part is not None for r in records),
        "the learner kept more than it declared": any(r.breaches for r in records),
        "its answers come from other test images": any(_looked_around(r) for r in records),
    }
    return [reason for reason, holds in reasons.items() if holds]


def _looked_around(record: Record) -> bool:
    """Whether testing on a learning stream changed the learner or depended on other test images."""
    seen = record.conduct
    undeclared = "batch-independence" not in record.result.strategy.known_failures
    return seen is not None and bool(
        seen.changed_by_testing or (seen.depends_on is not None and undeclared)
    )


def measure_of(table: BoardTable) -> str:
    """Short name of the measure of a column."""
    probed = any(column.key == "neighbours" for column in table.columns)
    measure = "error" if table.adaptation else "probe accuracy" if probed else "accuracy"
    return f"{measure}, untuned" if BY_HAND in table.modes else measure


def overview_of(tables: Sequence[BoardTable]) -> Overview:
    """Return the matrix; methods are in the order of the first stream on which they have a row."""
    best = [_best_of(table) for table in tables]
    methods = {
        row.entry.strategy: None for table in tables for row in table.rows
    }  # in the order of the tables, the best first
    lines = []
    for method in methods:
        there = [any(row.entry.strategy == method for row in table.rows) for table in tables]
        cells = tuple(cells.get(method) for cells in best)
        lines.append(
            OverviewLine(
                method,
                cells,
                tuple(t and c is None for t, c in zip(there, cells, strict=True)),
            )
        )
    return Overview(tuple(tables), tuple(lines))


def _best_of(table: BoardTable) -> dict[str, OverviewCell]:
    """Cell of each method in a table, whose rows are sorted, the best first."""
    able = [row for row in table.rows if not doubts_about(row)]
    means = [row.mean for row in able if row.mean is not None]
    low, high = min(means, default=0.0), max(means, default=0.0)
    found: dict[str, OverviewCell] = {}
    for row in able:
        mean, method = row.mean, row.entry.strategy
        if mean is None or method in found:
            continue
        count = sum(other.entry.strategy == method for other in able)
        found[method] = OverviewCell(
            text=f"{100 * (1 - mean if table.adaptation else mean):.1f}",
            note=_note(row, count),
            anchor=row.anchor,
            shade=round((mean - low) / (high - low), 3) if high > low else 1.0,
        )
    return found


def _note(row: BoardRow, count: int) -> str:
    """Mode of a row with a certificate, and the number of rows, if several, of which it is best."""
    words = [] if row.mode == BY_HAND else [row.mode]
    return ", ".join([*words, *([f"best of {count}"] if count > 1 else [])])
