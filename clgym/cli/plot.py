"""Draw the figures of a paper from runs, folders of seeds and studies.

Draws what the records allow, or the kinds that are named; files that are there
are replaced. The same records give the same bytes.

  accuracy-matrix        accuracy after and on each experience, with its numbers
  anytime                accuracy after each experience, every seed a dot
  forgetting             of each method, every seed a dot
  accuracy-against-cost  against the time of all runs, tuning included
  rank-shift             rank on the tuning side against that on the other
  expected-best          expected best tuning score against the number of trials
  performance-profile    over streams, distance to the best method of each
  error-over-time        along an adaptation stream
"""

from collections.abc import Sequence
from pathlib import Path

from clgym.cli._parser import Parser

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym plot``."""
    parser = Parser("clgym plot", __doc__)
    parser.add_argument(
        "records",
        type=Path,
        nargs="+",
        metavar="RECORD",
        help="Output folder of a run, of a run with --seeds, or of a study.",
    )
    parser.add_argument(
        "--kind", nargs="+", default=[], metavar="NAME", help="Only these. (default: all there are)"
    )
    parser.add_argument("--format", choices=("svg", "pdf"), default="svg", help="(default svg)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="Where the figures go."
    )
    values = parser.parse(words)

    from clgym.board.figures.plots import draw, write
    from clgym.board.reading.found import load_runs

    plots = draw(load_runs(values.records), values.kind)
    for path, plot in write(plots, values.out, values.format):
        print(f"{path}: {plot.words}")
    return 0
