"""Compare two runs, or two folders of runs over seeds, with paired tests.

Over images: exact McNemar test on the predictions after the last experience, and on those
along an adaptation stream, with a 95 % interval of the difference. Over seeds: paired t test.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clgym.cli._parser import Parser

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from clgym.results.compare import Comparison, Difference

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym compare``."""
    parser = Parser("clgym compare", __doc__)
    for side in ("a", "b"):
        parser.add_argument(
            side,
            type=Path,
            metavar=side.upper(),
            help="Output folder of a run, its record.json, or the --out of a run with --seeds.",
        )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of tables.")
    values = parser.parse(words)
    from dataclasses import asdict

    from clgym.results.compare import compare

    found = compare(values.a, values.b)
    if values.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        _show(found)
    return 0


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
        console.print("images of the adaptation stream, each as it was answered; mean error")
        console.print(_table("seed", [(str(pair.seed), pair) for pair in shift.pairs]))
        for pair in shift.pairs:
            console.print(f"segments at seed {pair.seed}; error; p of one segment by itself")
            console.print(_table("segment", [(s.name, s) for s in pair.segments]))
        _over_seeds(console, "mean error", shift.mean_error)
        _over_seeds(console, "pooled error", shift.pooled_error)
    pairs = found.pairs or (shift.pairs if shift else [])
    if len(pairs) == 1:
        console.print("one seed: this compares two trained models, not two methods")


def _table(head: str, rows: "Sequence[tuple[str, Any]]") -> "Table":
    """One line a pair: both sides, what each alone has right, the difference over images."""
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
    if found.p is None:
        return "-"
    return "< 0.0001" if found.p < 1e-4 else f"{found.p:.4f}"
