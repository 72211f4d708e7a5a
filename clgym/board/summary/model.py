"""Content of a table, independent of its format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from clgym.board.summary.measures import TableMeasure

__all__ = ["Axis", "Spread", "Standing", "SummaryCell", "TableModel"]

Axis = Literal["strategy", "scenario"]
Spread = Literal["std", "ci95"]
Standing = Literal["best", "tied", "worse", "untested", "alone"]
"""Comparison of a cell with the best of its scenario and measure: the best itself, not
significantly different, significantly worse, without a test, or the only one.
"""


@dataclass(frozen=True)
class SummaryCell:
    """One method on one scenario by one measure."""

    mean: float
    """Mean over seeds, a fraction."""
    spread: float | None
    """Standard deviation (n - 1), or half the width of the 95 % interval of the mean by Student's
    t; None for a single seed."""
    n: int
    """Number of seeds."""
    standing: Standing


@dataclass(frozen=True)
class TableModel:
    """Cells by row, column and measure."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    measures: tuple[TableMeasure, ...]
    cells: Mapping[tuple[str, str, str], SummaryCell]
    """Cell by row, column and name of the measure; cells without a value are absent."""
    head: str
    """What the rows are."""
    spread: Spread
    notes: tuple[str, ...]
    """Remarks that belong below the table."""

    @property
    def caption(self) -> str:
        """Sentences that explain the numbers and the marks."""
        spread = {"std": "standard deviation", "ci95": "half-width of the 95 % interval"}
        counts = sorted({cell.n for cell in self.cells.values()})
        seeds = f"{counts[0]} seed{'s' * (counts[0] != 1)}"
        if len(counts) > 1:
            seeds = f"{counts[0]} to {counts[-1]} seeds (n in each cell)"
        words = f"Mean and {spread[self.spread]} over {seeds}."
        found = {cell.standing for cell in self.cells.values()}
        if "best" in found:
            words += " Bold: best of the scenario."
        if found & {"tied", "worse"}:
            words += (
                " Underlined: not significantly different from the best (paired t test over seeds,"
                " Holm-corrected, level 0.05)."
            )
        return words

    @property
    def varied(self) -> bool:
        """Whether the cells have different numbers of seeds, so that each must state its own."""
        return len({cell.n for cell in self.cells.values()}) > 1

    def cell(self, row: str, column: str, measure: TableMeasure) -> SummaryCell | None:
        """Return a cell; None where nothing was measured."""
        return self.cells.get((row, column, measure.name))
