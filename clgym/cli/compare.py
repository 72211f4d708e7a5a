"""Compare runs, folders of runs over seeds, and studies.

Two sides, over images: exact McNemar test on the predictions after the last experience, and
on those along an adaptation stream, with a 95 % interval of the difference. Over seeds:
paired t test.

Three sides or more: ranks over the seeds of one stream, or over several streams, with Friedman's
test of all sides and Nemenyi's test of each pair; --plot draws the critical-difference diagram.
A folder that holds the runs of several methods stands for all of them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clgym.cli._parser import BadUsage, Parser

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from clgym.board.summary.ranking import Ranking
    from clgym.results.compare import Comparison, Difference

__all__ = ["main"]

_MEASURES = ("last", "average", "forgetting", "backward", "forward", "anytime", "error", "pooled")


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym compare``."""
    parser = Parser("clgym compare", __doc__)
    parser.add_argument(
        "sides",
        type=Path,
        nargs="+",
        metavar="SIDE",
        help="Output folder of a run, its record.json, the --out of a run with --seeds, or the "
        "folder of a study.",
    )
    parser.add_argument(
        "--measure",
        choices=_MEASURES,
        help="Measure by which three sides or more are ranked. (default: last; error on adaptation "
        "streams)",
    )
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="File of the critical-difference diagram: .svg, .pdf or .png.",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of tables.")
    values = parser.parse(words)
    from dataclasses import asdict

    from clgym.board.summary.ranking import Ranking
    from clgym.board.summary.sides import compare_all

    found = compare_all(values.sides, values.measure)
    if values.plot is not None:
        _plot(found, values.plot)
    if values.json:
        print(json.dumps(asdict(found), indent=1))
    elif isinstance(found, Ranking):
        _show_ranking(found)
    else:
        _show(found)
    return 0


def _plot(found: "Comparison | Ranking", file: Path) -> None:
    from clgym.board.figures.diagram import critical_difference
    from clgym.board.figures.drawing import save
    from clgym.board.summary.ranking import Ranking

    if not isinstance(found, Ranking):
        raise BadUsage(
            expected="three sides or more, to draw their ranks",
            found="two sides",
            fix="Leave out --plot, or use `clgym plot`",
        )
    groups = [[found.methods.index(name) for name in group] for group in found.groups]
    ranks = dict(zip(found.methods, found.mean_ranks, strict=True))
    figure = critical_difference(ranks, found.critical_difference, groups)
    save(figure, file)


def _show_ranking(found: "Ranking") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from clgym.board.summary.measures import MEASURES
    from clgym.cli._console import Console

    console = Console(highlight=False)
    measure = MEASURES[found.measure]
    console.print(
        f"{len(found.methods)} methods over {len(found.blocks)} blocks "
        f"({'; '.join(found.blocks)}), ranked by {measure.name}",
        markup=False,
    )
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("method", overflow="fold")
    for title in ("mean rank", measure.title):
        table.add_column(title, justify="right")
    for name, rank, mean in zip(found.methods, found.mean_ranks, found.means, strict=True):
        table.add_row(Text(name), f"{rank:.2f}", f"{100 * mean:.2f}")
    console.print(table)
    degrees = len(found.methods) - 1
    friedman = f"Friedman: chi-squared {found.statistic:.2f} ({degrees} degrees of freedom)"
    console.print(f"{friedman}, p {_number(found.p)}")
    reach = f"Nemenyi: ranks that lie {found.critical_difference:.2f} or more apart differ"
    console.print(f"{reach} significantly (level 0.05)")
    pairs = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("A", "B", "rank A - rank B", "p"):
        pairs.add_column(title, overflow="fold")
    for pair in found.pairs:
        pairs.add_row(Text(pair.a), Text(pair.b), f"{pair.difference:+.2f}", _number(pair.p))
    console.print(pairs)
    for group in found.groups:
        console.print(Text(f"not significantly different: {', '.join(group)}"))
    for note in found.notes:
        console.print(Text(f"note: {note}"))


def _show(found: "Comparison") -> None:
    from clgym.cli._console import Console

    console = Console(highlight=False)
    console.print(f"A: {found.a}   B: {found.b}   on {found.scenario}\n", markup=False)
    for note in found.notes:
        console.print(note, markup=False)
    if found.pairs:
        console.print(
            "test images after the last experience; accuracy over experiences as recorded"
        )
        console.print(_table("seed", [(str(pair.seed), pair) for pair in found.pairs]))
        _over_seeds(console, "last accuracy", found.last)
        _over_seeds(console, "average incremental accuracy", found.average)
    if shift := found.adaptation:
        console.print(
            "images of the adaptation stream, each scored when it was predicted; mean error"
        )
        console.print(_table("seed", [(str(pair.seed), pair) for pair in shift.pairs]))
        for pair in shift.pairs:
            console.print(f"segments at seed {pair.seed}; error; p of one segment alone")
            console.print(_table("segment", [(s.name, s) for s in pair.segments]))
        _over_seeds(console, "mean error", shift.mean_error)
        _over_seeds(console, "pooled error", shift.pooled_error)
    pairs = found.pairs or (shift.pairs if shift else [])
    if len(pairs) == 1:
        console.print("one seed: this compares two trained models, not two methods")


def _table(head: str, rows: "Sequence[tuple[str, Any]]") -> "Table":
    """One line per pair: both sides, the images that only one of them has right, the difference."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(head, justify="left" if head == "segment" else "right")
    for title in ("A %", "B %", "A only", "B only", "of", "A - B, 95 % interval", "p"):
        table.add_column(title, justify="right")
    for name, pair in rows:
        counts = [f"{n:,}" for n in (pair.counts.only_a, pair.counts.only_b, pair.counts.n)]
        shares = [f"{100 * value:.2f}" for value in (pair.a, pair.b)]
        table.add_row(name, *shares, *counts, _interval(pair.samples), _p(pair.samples))
    return table


def _over_seeds(console: "Console", name: str, found: "Difference | None") -> None:
    if found is None or found.n == 1:
        return
    test = "no test, since the differences do not vary" if found.p is None else f"p {_p(found)}"
    line = f"{name} over {found.n} seeds: A - B {_interval(found)}, {test}"
    console.print(line, soft_wrap=True)


def _interval(found: "Difference") -> str:
    ends = (
        ""
        if found.low is None or found.high is None
        else f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    )
    return f"{100 * found.mean:+.2f}{ends}"


def _p(found: "Difference") -> str:
    return "-" if found.p is None else _number(found.p)


def _number(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"
