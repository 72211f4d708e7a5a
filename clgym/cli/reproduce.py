"""Run the claims of a paper, and print each claimed number beside the measured one with a verdict.

`clgym reproduce` lists the papers and their rows. `clgym reproduce lame` runs the rows of that
paper that fit two processor cores; `--scale full` runs those of the paper's own size. Missing data,
weights and devices are reported first. The same command given again continues an interrupted one.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym.cli._parser import BadUsage, Parser, add_data_root_option
from clgym.cli._pools import add_sandbox_flag
from clgym.errors import UnknownName, near

if TYPE_CHECKING:
    from rich.console import Console

    from clgym.papers import ClaimRow, Paper, PaperStatus
    from clgym.papers.reproduce import Reproduction

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym reproduce``."""
    values = _parser().parse(words)
    from clgym.papers import load_paper, paper_names

    if values.paper is None and not values.all:
        return _list([load_paper(name) for name in paper_names()], values)
    names = paper_names() if values.all else [str(values.paper)]
    chosen = [(p, r) for p in map(load_paper, names) for r in _rows(p, values)]
    if not chosen:
        raise BadUsage(
            expected=f"a paper with rows of scale {values.scale}",
            found=", ".join(names),
            fix="`clgym reproduce` lists the rows of every paper",
        )
    return _carry_out(chosen, values)


def _parser() -> Parser:
    parser = Parser("clgym reproduce", __doc__)
    parser.add_argument("paper", nargs="?", metavar="PAPER", help="Paper. (default: list all)")
    parser.add_argument(
        "row", nargs="?", metavar="ROW", help="Row of the paper. (default: all of the scale)"
    )
    parser.add_argument("--all", action="store_true", help="Run the rows of every paper.")
    parser.add_argument(
        "--scale",
        choices=("lite", "full"),
        default="lite",
        help="lite: rows for two cores and part of the data; full: rows of the paper's size. "
        "(default: lite)",
    )
    parser.add_argument("--dry-run", action="store_true", help="List what is needed and missing.")
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="Parallel runs. (default: 2)"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/papers"),
        metavar="DIR",
        help="Folder of the runs. (default: runs/papers)",
    )
    parser.add_argument(
        "--board",
        type=Path,
        default=Path("leaderboards"),
        metavar="DIR",
        help="Folder that gets records/ and status/. (default: leaderboards)",
    )
    add_sandbox_flag(parser)
    add_data_root_option(parser)
    parser.add_argument("--json", action="store_true", help="Print only the outcome, as JSON.")
    return parser


def _rows(paper: "Paper", values: argparse.Namespace) -> list["ClaimRow"]:
    if values.row is None or values.all:
        return [row for row in paper.rows if row.scale == values.scale]
    if values.row not in paper.by_row:
        raise UnknownName(
            expected=f"a row of {paper.name}",
            found=repr(values.row),
            fix=f"{near(values.row, paper.by_row)}There are {', '.join(paper.by_row)}",
        )
    return [paper.by_row[values.row]]


def _carry_out(chosen: Sequence[tuple["Paper", "ClaimRow"]], values: argparse.Namespace) -> int:
    from clgym.cli._console import Console
    from clgym.cli._trials import watch_trials
    from clgym.engines.pool import PoolSpec
    from clgym.papers.reproduce import Reproduction

    work = Reproduction(
        chosen,
        values.runs,
        values.board,
        values.data_root,
        PoolSpec(workers=values.workers),
        sandbox=values.sandbox,
    )
    stderr = Console(stderr=True)
    if values.dry_run:
        return _needs(stderr, work, chosen)
    hours = sum(row.hours for _, row in chosen)
    stderr.print(
        f"{len(chosen)} rows, about {_time(hours)} if nothing is done yet", highlight=False
    )
    with watch_trials(stderr) as show:
        work.emit = show
        statuses = work.carry_out()
    asked = {(paper.name, row.name) for paper, row in chosen}
    if values.json:
        print(json.dumps([status.model_dump(mode="json") for status in statuses], indent=1))
    else:
        for status in statuses:
            _show(Console(), status, asked)
    rows = [row for status in statuses for row in status.rows if (status.paper, row.row) in asked]
    return 1 if any(told.startswith("not run") for row in rows for told in row.runs.values()) else 0


def _needs(
    console: "Console", work: "Reproduction", chosen: Sequence[tuple["Paper", "ClaimRow"]]
) -> int:
    """Print hours, device and runs of each row, and all data, weights and devices that it lacks."""
    from clgym.data.root import data_root

    lacking = work.obstacles()
    if lacking:
        line = f"DATA_ROOT is {data_root(work.root)} (--data-root or CLGYM_DATA changes it)"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    for paper, row in chosen:
        runs = ", ".join(row.wanted)
        line = f"{paper.name} {row.name}: {_time(row.hours)} on {_device(row.device)}; {runs}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
        reasons: dict[str, list[str]] = {}
        for name in row.wanted:
            for why in lacking.get(work.task(paper, row, name).key, []):
                reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            which = "all" if len(names) == len(row.wanted) else ", ".join(names)
            text = f"  missing for {which}: {why}"
            console.print(text, highlight=False, soft_wrap=True, markup=False)
        if reasons and row.get:
            text = f"  {row.get.replace('{data}', 'DATA_ROOT')}"
            console.print(text, highlight=False, soft_wrap=True, markup=False)
        if not reasons:
            console.print("  nothing is missing")
    return 0


def _device(name: str) -> str:
    return "two processor cores" if name == "cpu" else "one GPU"


def _time(hours: float) -> str:
    return f"{round(60 * hours)} min" if hours < 1 else f"{hours:.3g} h"


def _list(papers: Sequence["Paper"], values: argparse.Namespace) -> int:
    """Print every paper with its rows, and the last verdict of each."""
    if values.json:
        print(json.dumps([paper.model_dump(mode="json") for paper in papers], indent=1))
        return 0
    for paper in papers:
        print(f"{paper.name}: {paper.title} ({paper.venue} {paper.year})")
        verdicts = _last_verdicts(paper, values.board)
        for row in paper.rows:
            where = f"{row.scale}, {_time(row.hours)} on {_device(row.device)}"
            print(f"  {row.name:<24} {where}: {row.about}")
            if row.name in verdicts:
                print(f"  {'':<24} last verdict: {verdicts[row.name]}")
    print("\n`clgym reproduce PAPER [ROW]` runs the lite rows of one; --all those of all.")
    return 0


def _last_verdicts(paper: "Paper", board: Path) -> dict[str, str]:
    """Verdicts of a paper in words, by row, from the status file that the last run wrote."""
    from collections import Counter

    from clgym.papers.status import read_status

    file = board / "status" / f"{paper.name}.json"
    if not file.is_file():
        return {}
    found = {}
    for row in read_status(file).rows:
        counts = Counter(claim.verdict for claim in row.claims)
        words = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        found[row.row] = words or "run, without claims to judge"
    return found


def _show(console: "Console", status: "PaperStatus", asked: set[tuple[str, str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console.print(f"\n[bold]{status.paper}[/bold]: {status.title}", highlight=False)
    for row in status.rows:
        if (status.paper, row.row) not in asked:
            continue
        console.print(f"{row.row} ({row.scale}): {row.about}", markup=False, highlight=False)
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for head in ("claim", "claimed", "measured", "+-", "verdict"):
            table.add_column(head, overflow="fold")
        for c in row.claims:
            verdict = f"{c.verdict} {c.why}".strip()
            table.add_row(c.claim, c.claimed, c.measured, c.tolerance, verdict)
        console.print(table, markup=False)
        for name, told in row.runs.items():
            console.print(f"  {name}: {told}", markup=False, highlight=False)
