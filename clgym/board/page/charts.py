"""Choose the figures of the board's tables, drawn by `clgym.board.figures.drawing`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clgym.board.figures import drawing
from clgym.board.figures.canvas import FigureStyle, drawn_in
from clgym.board.figures.profiles import Standing, profile_of
from clgym.board.page.tables import BoardRow, BoardTable
from clgym.board.reading.entries import options_text
from clgym.board.stats import ranks
from clgym.results.agreement import rank_agreement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Chart", "across_charts", "protocol_chart", "table_charts"]

MOST = 7
"""Maximum number of rows in a figure; more could not be distinguished."""
MOST_RANKED = 20
"""The same where both ends of each line have a name."""


@dataclass(frozen=True)
class Chart:
    """A figure of the page."""

    title: str
    svg: str
    note: str = ""
    """Sentence below the title."""


def _chart(title: str, figure: "Figure", where: str = "", note: str = "") -> Chart:
    return Chart(title, drawing.svg(figure, f"{title}{where}"), note)


def protocol_chart(tables: Sequence[BoardTable]) -> Chart | None:
    """The tuning rank against the evaluation rank, from the table with most tuned rows.

    The paper's protocol in one picture: hyper-parameters were chosen on other data (mode
    ``transfer``). None where no table has two such rows.
    """
    found = [(table, _tuned(table.with_mode("transfer"))) for table in tables]
    table, rows = max(found, key=lambda one: len(one[1]), default=(None, []))
    if table is None or len(rows) < 2:
        return None
    with drawn_in(FigureStyle(width=5.2)):
        figure = _rank_shift(rows)
    title = f"Tuning rank against evaluation rank: {table.name}"
    return _chart(f"{title}{_part(rows, MOST_RANKED)}", figure, note=_agreement(rows))


def table_charts(table: BoardTable) -> list[Chart]:
    """Figures of the first rows of a table that have a mean; none if there is only one."""
    rows = [row for row in table.rows if row.mean is not None]
    if len(rows) < 2:
        return []
    where = f": {table.name}"
    drawn = [
        (f"{title}{_part(rows, MOST)}", figure) for title, figure in _drawn(table, rows[:MOST])
    ]
    plain = [_chart(title, figure, where) for title, figure in drawn]
    return [*plain, *(_chart(title, figure, where, note) for title, figure, note in _shifts(table))]


def _part(rows: Sequence[BoardRow], most: int) -> str:
    """What a title says of rows that are not drawn."""
    return f" (first {most} of {len(rows)} rows)" if len(rows) > most else ""


def _tuned(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Rows that can be ranked by both their tuning score and their mean."""
    return [
        row
        for row in rows
        if row.mean is not None and row.entry.tuning and row.entry.tuning.score is not None
    ]


def _drawn(table: BoardTable, rows: Sequence[BoardRow]) -> Iterator[tuple[str, "Figure"]]:
    if not table.adaptation:
        yield from _over_experiences(rows)
    yield "Accuracy against cost, tuning included", _against_cost(rows)
    searched = {
        row.short_name: row.entry.tuning.trials
        for row in rows
        if row.entry.tuning and len(row.entry.tuning.trials) > 1
    }
    if searched:
        yield "Expected best tuning score against number of trials", drawing.expected_best(searched)


def _shifts(table: BoardTable) -> Iterator[tuple[str, "Figure", str]]:
    for mode in table.modes:
        tuned = _tuned(table.with_mode(mode))
        if len(tuned) > 1:
            title = f"Tuning rank against evaluation rank ({mode})"
            yield f"{title}{_part(tuned, MOST_RANKED)}", _rank_shift(tuned), _agreement(tuned)


def _agreement(rows: Sequence[BoardRow]) -> str:
    """How well the ranks of all tuned rows agree, with intervals; empty if all are equal."""
    found = rank_agreement([_tuning_score(row) for row in rows], [row.mean or 0.0 for row in rows])
    if found is None:
        return ""
    return (
        f"Spearman's correlation of the ranks is {found.spearman}, Kendall's tau-b {found.kendall} "
        f"(95 % bootstrap intervals over the {found.n} rows)."
    )


def _tuning_score(row: BoardRow) -> float:
    return (row.entry.tuning.score if row.entry.tuning else None) or 0.0


def _rank_shift(rows: Sequence[BoardRow]) -> "Figure":
    """Ranks among all rows, of which the first are drawn."""
    tuning = [_tuning_score(row) for row in rows]
    placed = ranks([{s.key: s.primary for s in r.entry.scores} for r in rows])
    means = [row.mean or 0.0 for row in rows]
    return drawing.rank_shift(
        [
            {
                "name": row.short_name,
                "tuning": 1 + sum(other > own for other in tuning),
                "evaluation": 1 + sum(other > mean for other in means),
                "low": rank.low if rank else None,
                "high": rank.high if rank else None,
            }
            for row, own, mean, rank in zip(rows, tuning, means, placed, strict=True)
        ][:MOST_RANKED]
    )


def _over_experiences(rows: Sequence[BoardRow]) -> Iterator[tuple[str, "Figure"]]:
    curves = {
        row.short_name: [score.record.result.accuracy_after for score in row.entry.scores]
        for row in rows
    }
    lengths = {len(curve) for seeds in curves.values() for curve in seeds}
    if len(lengths) == 1 and lengths != {1}:
        yield "Accuracy at any time", drawing.anytime(curves)
    drops = {
        row.short_name: [score.record.result.forgetting for score in row.entry.scores]
        for row in rows
    }
    # Rows that were not tested after every experience have no forgetting.
    known = {n: [v for v in values if v is not None] for n, values in drops.items()}
    if known := {name: values for name, values in known.items() if values}:
        yield "Forgetting", drawing.forgetting(known)


def _against_cost(rows: Sequence[BoardRow]) -> "Figure":
    return drawing.accuracy_against_cost(
        [
            {
                "name": row.short_name,
                "seconds": row.entry.seconds
                if row.entry.tuning
                else row.entry.seconds / len(row.entry.scores),
                "tuning_seconds": row.entry.tuning.seconds if row.entry.tuning else None,
                "accuracy": row.mean,
                "low": row.interval[0] if row.interval else None,
                "high": row.interval[1] if row.interval else None,
            }
            for row in rows
        ]
    )


def across_charts(tables: Sequence[BoardTable]) -> list[Chart]:
    """A performance profile for each mode and kind of stream whose tables share enough methods."""
    found = []
    for mode in sorted({mode for table in tables for mode in table.modes}):
        for adaptation in (False, True):
            own = [table for table in tables if table.adaptation == adaptation]
            profile = profile_of([*_standings(own, mode)], MOST)
            if profile is None:
                continue
            kind = "adaptation streams" if adaptation else "learning streams"
            drawn = len(profile.methods)
            of = f" of {profile.known}" if drawn < profile.known else ""
            what = f"{drawn}{of} methods over {len(profile.best)} {kind} ({mode})"
            figure = drawing.performance_profile(profile.methods, profile.best)
            found.append(_chart(f"Performance profile: {what}", figure))
    return found


def _standings(tables: Sequence[BoardTable], mode: str) -> Iterator[Standing]:
    """All rows of a mode that have a mean."""
    for table in tables:
        for row in table.with_mode(mode):
            if row.mean is not None:
                options = options_text(row.entry.config)
                yield Standing(row.entry.strategy, options, table.id, row.mean)
