"""Draw the figures of a paper from runs, folders of seeds, and studies.

Without --kind, all figures are drawn that the records allow. Existing files are
replaced. The same records give the same bytes.

  accuracy-matrix        accuracy after each experience on each experience
  task-accuracy          accuracy on each experience while others arrive
  confusion-matrix       predicted classes of each true class after the last experience
  anytime                accuracy after each experience, one dot per seed, with a band
  last-accuracy          bars of the last accuracy, with 95 % intervals of the mean
  forgetting             forgetting of each method, one dot per seed
  accuracy-against-cost  accuracy against the time of all runs, with tuning
  rank-shift             tuning rank against evaluation rank
  expected-best          expected best tuning score against the number of trials
  performance-profile    ratio of each method's error to the lowest error
  error-over-time        online error along an adaptation stream
"""

import argparse
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
    parser.add_argument(
        "--format", choices=("svg", "pdf", "png"), default="svg", help="(default: svg)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="Output folder.")
    _add_looks(parser)
    values = parser.parse(words)

    from clgym.board.figures.canvas import FigureStyle
    from clgym.board.figures.plots import draw, write
    from clgym.board.reading.found import arranged, load_checked_runs

    style = FigureStyle.parse(values.size, values.font_size)
    methods = arranged(load_checked_runs(values.records), dict(values.labels), values.order)
    plots = draw(methods, values.kind)
    for path, plot in write(plots, values.out, values.format, style):
        print(f"{path}: {plot.words}")
    return 0


def _add_looks(parser: Parser) -> None:
    looks = parser.add_argument_group("options of the look")
    looks.add_argument(
        "--size",
        metavar="SIZE",
        help="single-column (3.3 inches wide), double-column (6.9), or WxH in inches. "
        "(default: 5 inches wide)",
    )
    looks.add_argument(
        "--font-size",
        type=float,
        metavar="PT",
        help="Font size in points. (default: 10; 8 in a single column, 9 in a double one)",
    )
    looks.add_argument(
        "--labels",
        type=_label,
        nargs="+",
        default=[],
        metavar="NAME=LABEL",
        help="Names to show instead of those of the methods: replay=ER 'nmc=Nearest mean'.",
    )
    looks.add_argument(
        "--order",
        action=Several,
        default=[],
        metavar="NAME",
        help="Methods that come first, in this order. (default: as given)",
    )


def _label(text: str) -> tuple[str, str]:
    """A name and its label."""
    name, equals, label = text.partition("=")
    if not (equals and name and label):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LABEL")
    return name, label
