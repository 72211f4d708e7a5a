"""Compare two runs, or two folders of runs over seeds, by paired tests.

Over test images: exact McNemar test of the answers after the last experience,
with a 95 % interval of the difference. Over seeds: paired t test.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym.cli._parser import Parser

if TYPE_CHECKING:
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
    parser.add_argument("--json", action="store_true", help="Print data instead of tables.")
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
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"A: {found.a}   B: {found.b}   on {found.scenario}\n", markup=False)
    console.print("test images after the last experience; accuracy over experiences as recorded")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("seed", "A %", "B %", "A only", "B only", "of", "A - B, 95 % interval", "p"):
        table.add_column(head, justify="right")
    for pair in found.pairs:
        counts = [f"{n:,}" for n in (pair.counts.only_a, pair.counts.only_b, pair.counts.n)]
        shares = [f"{100 * value:.2f}" for value in (pair.a, pair.b)]
        table.add_row(str(pair.seed), *shares, *counts, _interval(pair.samples), _p(pair.samples))
    console.print(table)
    if len(found.pairs) == 1:
        console.print("one seed: this compares two trained models, not two methods")
        return
    for name, difference in (("last", found.last), ("average incremental", found.average)):
        console.print(
            f"{name} accuracy over {difference.n} seeds: A - B {_interval(difference)}, "
            f"p {_p(difference)}"
        )
    if found.last.p is None:
        console.print("no test over seeds: the differences do not vary")


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
