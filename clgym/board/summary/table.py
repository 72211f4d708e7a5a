"""Compute the table of a paper: means and spreads over seeds, and tests against the best method."""

import math
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from scipy import special

from clgym.board.reading.found import Method
from clgym.board.summary.formats import render
from clgym.board.summary.grid import Grid, grid_of
from clgym.board.summary.measures import MEASURES, TableMeasure, measure_of
from clgym.board.summary.model import Axis, Spread, Standing, SummaryCell, TableModel
from clgym.errors import BadConfig
from clgym.results.compare import LEVEL, Difference, over_seeds
from clgym.results.grouping import seeds_of
from clgym.results.holm import holm

__all__ = ["SummaryTable", "summarize"]

_USUAL = ("last", "average", "forgetting", "error")
_SAME = 1e-12
"""Largest difference of two means that counts as a rounding error."""


class SummaryTable(TableModel):
    """Cells by row, column and measure, which can be written as text."""

    def render(self, kind: str) -> str:
        """Write the table as text.

        Args:
            kind: ``markdown``, ``latex``, ``csv`` or ``html``.

        Raises:
            UnknownName: There is no such format.
        """
        return render(self, kind)

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return self.render("html")


def summarize(
    methods: Sequence[Method],
    rows: Axis = "strategy",
    measures: Sequence[str] = (),
    spread: Spread = "std",
) -> SummaryTable:
    """Make a table of methods.

    Args:
        methods: Methods that were loaded; records that contradict themselves are refused.
        rows: Axis of the rows; the other axis gives the columns.
        measures: Names of `MEASURES`; none means last, average, forgetting and error where there
            are any.
        spread: Measure of spread that is printed after the mean.

    Raises:
        BadRecord: There are no runs, or a record's numbers contradict each other.
        BadConfig: No record has one of the measures.
        UnknownName: There is no such measure.
    """
    if spread not in get_args(Spread):
        raise BadConfig(
            expected=f"spread to be {' or '.join(get_args(Spread))}",
            found=repr(spread),
            fix="Give one of them",
        )
    grid = grid_of(methods)
    chosen = _chosen(grid, measures)
    cells: dict[tuple[str, str, str], SummaryCell] = {}
    notes = [*grid.notes, *_absences(grid), *_tests_left_out(grid)]
    for stream in grid.streams:
        for measure in chosen:
            found = _judged(_values(grid, stream, measure), measure, spread)
            for name, cell in found.items():
                place = (name, stream) if rows == "strategy" else (stream, name)
                cells[*place, measure.name] = cell
            lone = [name for name, cell in found.items() if cell.standing == "untested"]
            if lone:
                notes.append(
                    f"{stream}, {measure.title}: not tested against the best, since fewer than "
                    f"two seeds are common: {', '.join(lone)}"
                )
    sides = (grid.methods, grid.streams) if rows == "strategy" else (grid.streams, grid.methods)
    return SummaryTable(*sides, chosen, cells, rows, spread, tuple(notes))


def _chosen(grid: Grid, names: Sequence[str]) -> tuple[TableMeasure, ...]:
    """Measures to print: the named ones, else the default ones that any record has."""
    results = [result for method in grid.cells.values() for result in method.results]
    has = {n: any(m.value(r) is not None for r in results) for n, m in MEASURES.items()}
    for name in names:
        if not has[measure_of(name).name]:
            raise BadConfig(
                expected="measures that a record has",
                found=f"{name}, which none of {len(results)} records has",
                fix=f"Choose among {', '.join(n for n in has if has[n])}",
            )
    return tuple(MEASURES[n] for n in (names or [n for n in _USUAL if has[n]]))


def _absences(grid: Grid) -> list[str]:
    """Notes on evaluations with failed seeds, which get no mean, since it would be biased."""
    return [
        f"{name} on {stream}: no mean, since the run of seed "
        f"{', '.join(map(str, method.absent))} failed"
        for (name, stream), method in grid.cells.items()
        if method.absent
    ]


def _tests_left_out(grid: Grid) -> list[str]:
    """Notes on runs that did not test every experience."""
    return [
        f"{name} on {stream}: no measures over all experiences, since it was {result.tests}"
        for (name, stream), method in grid.cells.items()
        if (result := method.results[0]).average_incremental_accuracy is None
    ]


Values = dict[tuple[int, int], float]
"""Values of a measure, by seed and order seed."""


def _values(grid: Grid, stream: str, measure: TableMeasure) -> dict[str, Values]:
    """Values by method, for the methods that have a value for each of their seeds."""
    found: dict[str, Values] = {}
    for name in grid.methods:
        method = grid.cells.get((name, stream))
        if method is None or method.absent:
            continue
        values = {seeds_of(result): measure.value(result) for result in method.results}
        known = {seeds: value for seeds, value in values.items() if value is not None}
        if known and len(known) == len(values):
            found[name] = known
    return found


def _judged(
    values: Mapping[str, Values], measure: TableMeasure, spread: Spread
) -> dict[str, SummaryCell]:
    """Cells of one scenario and measure."""
    means = {name: math.fsum(own.values()) / len(own) for name, own in values.items()}
    standings = _standings(values, means, measure)
    return {
        name: SummaryCell(
            means[name], _spread(list(own.values()), spread), len(own), standings[name]
        )
        for name, own in values.items()
    }


def _standings(
    values: Mapping[str, Values], means: Mapping[str, float], measure: TableMeasure
) -> dict[str, Standing]:
    """Compare each method with the best: paired t tests over common seeds, Holm-corrected."""
    if len(values) < 2:
        return dict.fromkeys(values, "alone")
    best = max(means, key=lambda name: measure.sign * means[name])
    found: dict[str, Standing] = {best: "best"}
    tested: dict[str, float] = {}
    for name in values.keys() - {best}:
        shared = sorted(values[best].keys() & values[name].keys())
        p = _p_value([values[best][s] for s in shared], [values[name][s] for s in shared])
        if abs(means[name] - means[best]) < _SAME:
            found[name] = "tied"
        elif p is None:
            found[name] = "untested"
        else:
            tested[name] = p
    for name, p in zip(tested, holm(list(tested.values())), strict=True):
        found[name] = "tied" if p >= 1 - LEVEL else "worse"
    return {name: found[name] for name in values}


def _p_value(best: Sequence[float], other: Sequence[float]) -> float | None:
    """Return p of a paired t test; 0 if the difference never varies, None without two pairs."""
    if len(best) < 2:
        return None
    difference: Difference = over_seeds(best, other)
    if difference.p is not None:
        return difference.p
    return 1.0 if abs(difference.mean) < _SAME else 0.0


def _spread(values: Sequence[float], kind: Spread) -> float | None:
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1))
    if kind == "std":
        return deviation
    reach = float(special.stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    return reach * deviation / math.sqrt(len(values))
