"""Write a page about a run, a method over several seeds, or a study.

The page is a single HTML file that needs no network. It shows metrics, figures, classes,
options, cost and environment; for a study also its plan, trials, certificate, evaluations
and ledger.
"""

from collections.abc import Sequence
from pathlib import Path

from clgym.cli._parser import Parser

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym report``."""
    parser = Parser("clgym report", __doc__)
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN",
        help="Output folder of a run, of a run with --seeds, or of a study.",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="Output file. (default: report.html in RUN)"
    )
    values = parser.parse(words)

    from clgym.board.report.layout import report
    from clgym.files import write_atomic, writing

    page = report(values.run)
    folder = values.run if values.run.is_dir() else values.run.parent
    out = values.out or folder / "report.html"
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, page.encode())
    print(f"report: {out}")
    return 0
