"""Tables of text from entries. The page and the Markdown board print the same cells.

One stream, one table: rows of all modes stand side by side, each with the name of its mode.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clgym.board.page.cells import (
    Cell,
    adapted_cells,
    count_cell,
    learned_cells,
    memory_cell,
    paper_cells,
    rank_cell,
    seeds_cell,
    time_cell,
    trust_word,
    tuning_cell,
)
from clgym.board.page.columns import (
    ADAPTATION,
    DELETION,
    EVALUATION_TIME,
    FIRST,
    GROUP,
    LAST,
    LEARNING,
    PRETRAINING,
    RUN_TIME,
    SEEDS,
    SHIFT,
    TUNING,
    Column,
)
from clgym.board.page.naming import about_stream, labels, network_of
from clgym.board.page.references import reference_of
from clgym.board.reading.entries import Board, BoardEntry
from clgym.board.stats import Rank, interval, ranks
from clgym.results.grouping import identity

__all__ = ["BLIND_MODES", "BoardRow", "BoardTable", "tables_of"]

BLIND_MODES = ("transfer", "default")
"""Modes that choose hyper-parameters without any row of the evaluation stream; in a table with
several modes only their rows are ranked."""


@dataclass(frozen=True)
class BoardRow:
    """An entry as a row of its table."""

    entry: BoardEntry
    label: str
    """Options that distinguish the entry from others of its strategy in the table."""
    brief: str
    """The same values without the options' names, for figures."""
    rank: Rank | None
    mean: float | None
    interval: tuple[float, float] | None
    cells: dict[str, Cell]
    link: str = ""
    """Address of the paper that introduced the strategy; empty where its file states none."""

    @property
    def name(self) -> str:
        """Strategy and label."""
        return f"{self.entry.strategy} {self.label}".strip()

    @property
    def short_name(self) -> str:
        """Strategy and values."""
        return f"{self.entry.strategy} {self.brief}".strip()

    @property
    def mode(self) -> str:
        """Name of the row's mode: the data that tuning was allowed to use."""
        return self.entry.mode

    @property
    def anchor(self) -> str:
        """Address of the row within the page."""
        return f"row-{self.entry.id}"


@dataclass(frozen=True)
class BoardTable:
    """Rows that were measured on one stream: evaluations on one pair, or untuned runs."""

    id: str
    title: str
    part: str
    """Options that distinguish the table from others of its title; may be empty."""
    modes: tuple[str, ...]
    about: str
    """Sources and options of the stream."""
    adaptation: bool
    columns: tuple[Column, ...]
    rows: tuple[BoardRow, ...]
    shared_flags: tuple[str, ...] = ()
    """Warnings that hold for every row, which the rows do not repeat."""

    @property
    def name(self) -> str:
        """Title and part, which identify the table."""
        return f"{self.title}, {self.part}" if self.part else self.title

    def with_mode(self, mode: str) -> tuple[BoardRow, ...]:
        """The rows of one mode."""
        return tuple(row for row in self.rows if row.mode == mode)


def tables_of(board: Board) -> list[BoardTable]:
    """Return all tables: evaluations by pair, then untuned runs by stream."""
    groups: dict[tuple[bool, str, str], list[BoardEntry]] = defaultdict(list)
    for entry in board.entries:
        key = entry.tuning is None, str(entry.stream["name"]), identity(entry.stream)
        groups[key].append(entry)
    return _parted([_table(board, key[2], groups[key]) for key in sorted(groups)])


def _parted(tables: list[BoardTable]) -> list[BoardTable]:
    """Add the parts of ``about`` in which tables of one title differ."""
    alike: dict[str, list[set[str]]] = defaultdict(list)
    for table in tables:
        alike[table.title].append(set(table.about.split("; ")))
    found = []
    for table in tables:
        common = set.intersection(*alike[table.title])
        own = [words for words in table.about.split("; ") if words not in common]
        found.append(replace(table, part=", ".join(own)))
    return found


def _table(board: Board, key: str, entries: list[BoardEntry]) -> BoardTable:
    stream, adaptation = entries[0].stream, entries[0].adaptation
    shared = _shared_flags(entries)
    rows = tuple(_rows(board, entries, shared))
    return BoardTable(
        id=key,
        title=str(stream["name"]),
        part="",
        modes=tuple(sorted({row.mode for row in rows}, key=_order_of_mode)),
        about=about_stream(stream, entries),
        adaptation=adaptation,
        columns=tuple(_columns(entries, rows)),
        rows=rows,
        shared_flags=shared,
    )


def _order_of_mode(mode: str) -> tuple[int, str]:
    return (BLIND_MODES.index(mode) if mode in BLIND_MODES else len(BLIND_MODES)), mode


def _shared_flags(entries: Sequence[BoardEntry]) -> tuple[str, ...]:
    """Warnings that all rows have, if there are several rows."""
    if len(entries) < 2:
        return ()
    return tuple(sorted(set.intersection(*(set(entry.flags) for entry in entries))))


def _columns(entries: Sequence[BoardEntry], rows: Sequence[BoardRow]) -> list[Column]:
    """The columns of a table; without optional ones that would be empty."""
    first = entries[0].scores[0].record.result
    shifts = not entries[0].adaptation and first.adaptation is not None
    middle = ADAPTATION if entries[0].adaptation else (*LEARNING, SHIFT) if shifts else LEARNING
    if first.kind == "deletion":
        middle = DELETION
    if first.kind == "pretraining":
        middle = PRETRAINING
    time = EVALUATION_TIME if entries[0].tuning else RUN_TIME
    lettered = sum(bool(row.rank and row.rank.letters) for row in rows) > 1
    return [
        column
        for column in (*FIRST, *middle, TUNING, SEEDS, time, *LAST)
        if (column != GROUP or lettered)
        and not (column.optional and all(row.cells[column.key].text == "–" for row in rows))
    ]


def _rows(board: Board, entries: list[BoardEntry], shared: Sequence[str]) -> list[BoardRow]:
    """Rows sorted by mean, the best first.

    A row that lacks a promised run has neither mean nor rank.
    """
    pool = _ranked_modes(entries)
    placed = ranks(
        [
            {s.key: s.primary for s in e.scores} if e.complete and e.mode in pool else {}
            for e in entries
        ]
    )
    names = zip(labels(entries), labels(entries, named=False), strict=True)
    found = [
        _row(board, e, *told, rank, shared)
        for e, told, rank in zip(entries, names, placed, strict=True)
    ]
    for row in found:
        rivals = [e.tuning.score for e in entries if e.tuning and e.mode == row.mode]
        row.cells["tuning"] = tuning_cell(row.entry, [s for s in rivals if s is not None])
    tail = float("inf")
    found.sort(key=lambda r: (tail if r.mean is None else -r.mean, r.name, r.entry.id))
    for place, row in enumerate(found, 1):
        row.cells["rank"] = rank_cell(row.rank, place)
    return found


def _ranked_modes(entries: Sequence[BoardEntry]) -> set[str]:
    """Modes whose rows are ranked together: `BLIND_MODES`, or the table's only mode."""
    modes = {entry.mode for entry in entries}
    return modes if len(modes) == 1 else modes & set(BLIND_MODES)


def _strata(entry: BoardEntry, values: Sequence[float]) -> list[list[float]]:
    """Values by class order if each order has several runs; else all values in one stratum."""
    by_order: dict[int | None, list[float]] = defaultdict(list)
    for score, value in zip(entry.scores, values, strict=True):
        by_order[score.order_seed].append(value)
    if min(map(len, by_order.values())) > 1:
        return list(by_order.values())
    return [list(values)]


def _row(
    board: Board,
    entry: BoardEntry,
    label: str,
    brief: str,
    rank: Rank | None,
    shared: Sequence[str],
) -> BoardRow:
    values = [score.primary for score in entry.scores]
    mean = sum(values) / len(values) if entry.complete else None
    ends = interval(_strata(entry, values)) if entry.complete and not entry.alike else None
    own = [flag for flag in entry.flags if flag not in shared]
    reference = reference_of(entry, board.sent_with(entry.scores))
    network = network_of(entry)
    cells = {
        "group": Cell(rank.letters if rank else "", rank.letters if rank else None),
        "method": Cell(f"{entry.strategy} {label}".strip(), f"{entry.strategy} {label}".lower()),
        "mode": Cell(*[entry.mode.partition(" ")[0]] * 2),
        **(adapted_cells if entry.adaptation else learned_cells)(entry, mean, ends),
        "seeds": seeds_cell(entry),
        "time": time_cell(entry),
        "parameters": count_cell([s.record.result.parameters for s in entry.scores]),
        "network": Cell(network or "–", network or None),
        "memory": memory_cell([score.record for score in entry.scores]),
        **paper_cells(reference),
        "trust": Cell(*[trust_word(entry)] * 2),
        "flags": Cell("; ".join(own), -len(own)),
    }
    return BoardRow(entry, label, brief, rank, mean, ends, cells, reference.link)
