"""Draw the figures of a paper from runs, folders of seeds, and studies.

Without --kind, all figures are drawn that the records allow. Existing files are
replaced. The same records give the same bytes.

  accuracy-matrix        accuracy after each experience on each experience
  anytime                accuracy after each experience, one dot per seed
  forgetting             forgetting of each method, one dot per seed
  accuracy-against-cost  accuracy against the time of all runs, with tuning
  rank-shift             tuning rank against evaluation rank
  expected-best          expected best tuning score against the number of trials
  performance-profile    ratio of each method's error to the lowest error
  error-over-time        online error along an adaptation stream
"""

from collections.abc import Sequence
from pathlib import Path

from clgym.cli._parser import Parser, Several

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
        "--kind", action=Several, default=[], metavar="NAME", help="Figures to draw. (default: all)"
    )
    parser.add_argument("--format", choices=("svg", "pdf"), default="svg", help="(default: svg)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="Output folder.")
    values = parser.parse(words)

    from clgym.board.figures.plots import draw, write
    from clgym.board.reading.found import load_runs

    plots = draw(load_runs(values.records), values.kind)
    for path, plot in write(plots, values.out, values.format):
        print(f"{path}: {plot.words}")
    return 0
