"""Print a table for a paper from runs, folders of runs, and studies.

Each cell is the mean over seeds and its spread. The best method of a scenario is bold; methods
that do not differ significantly from it are underlined (paired t test over common seeds,
Holm-corrected over the methods, level 0.05). Measures:

  last        accuracy after the last experience
  average     average incremental accuracy
  forgetting  forgetting (lower is better)
  backward    backward transfer
  forward     forward transfer
  anytime     area under the accuracy along a single-pass stream
  error       mean error along an adaptation stream (lower is better)
  pooled      error over all images of an adaptation stream (lower is better)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym.cli._parser import BadUsage, Parser, Several

if TYPE_CHECKING:
    import argparse

    from clgym.board.summary.model import Axis, SummaryCell, TableModel

__all__ = ["main", "show_table"]

_AXES = ("strategy", "scenario")
_FORMATS = ("rich", "markdown", "latex", "csv", "html")


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym table``."""
    values = _parser().parse(words)
    rows = _rows(values)

    from clgym.board.reading.found import load_runs
    from clgym.board.summary.formats import render
    from clgym.board.summary.table import summarize

    table = summarize(load_runs(values.records), rows, values.measure, values.spread)
    if values.format == "rich":
        show_table(table)
    else:
        print(render(table, values.format), end="")
    return 0


def _parser() -> Parser:
    parser = Parser("clgym table", __doc__)
    parser.add_argument(
        "records",
        type=Path,
        nargs="+",
        metavar="RECORD",
        help="Output folder of a run, of a run with --seeds, of a study, or of several of these.",
    )
    parser.add_argument("--rows", choices=_AXES, help="What the rows are. (default: strategy)")
    parser.add_argument(
        "--columns", choices=_AXES, help="What the columns are. (default: scenario)"
    )
    parser.add_argument(
        "--measure",
        action=Several,
        default=[],
        metavar="NAME",
        help="Measures. (default: last, average, forgetting and error where there are any)",
    )
    parser.add_argument(
        "--format", choices=_FORMATS, default="rich", help="Format. (default: rich)"
    )
    parser.add_argument(
        "--spread",
        choices=("std", "ci95"),
        default="std",
        help="std: standard deviation over seeds; ci95: half-width of the 95 %% interval of the "
        "mean by Student's t. (default: std)",
    )
    return parser


def _rows(values: "argparse.Namespace") -> "Axis":
    """Axis of the rows; one of --rows and --columns is enough.

    Raises:
        BadUsage: Rows and columns are the same axis.
    """
    if values.rows is None and values.columns is None:
        return "strategy"
    if values.rows == values.columns:
        raise BadUsage(
            expected="rows and columns that differ",
            found=f"--rows {values.rows} --columns {values.columns}",
            fix="Give one of the two options",
        )
    if values.rows is None:
        return "strategy" if values.columns == "scenario" else "scenario"
    return values.rows


def show_table(table: "TableModel") -> None:
    """Print a table for a reader, one scenario after the other."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from clgym.board.summary.formats import cell_text
    from clgym.cli._console import Console

    console = Console(highlight=False)
    for column in table.columns:
        shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        shown.add_column(table.head, overflow="fold")
        for measure in table.measures:
            shown.add_column(measure.title, justify="right")
        for row in table.rows:
            cells = [table.cell(row, column, measure) for measure in table.measures]
            if any(cells):
                texts = [Text(cell_text(c, table.varied), style=_style(c)) for c in cells]
                shown.add_row(Text(row), *texts)
        console.print(Text(column))
        console.print(shown)
    for note in (table.caption, *table.notes):
        console.print(Text(note))


def _style(cell: "SummaryCell | None") -> str:
    """Style of a cell; without colours a terminal shows bold and underline all the same."""
    return {"best": "bold", "tied": "underline"}.get(cell.standing, "") if cell else ""
