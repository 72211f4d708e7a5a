"""Render a leaderboards folder as one static page and as Markdown.

Every number is recomputed from the predictions. Records that do not agree with them are left out,
and the page says why. The page needs no network and opens from its file.
"""

from collections.abc import Sequence
from pathlib import Path

from clgym.cli._parser import Parser

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym board``."""
    parser = Parser("clgym board", __doc__)
    parser.add_argument(
        "folder", type=Path, help="Folder with records/; its README.md is rewritten."
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("site"),
        metavar="DIR",
        help="Output folder. (default: site)",
    )
    values = parser.parse(words)

    from clgym.board.page.render import render

    board = render(values.folder, values.out)
    for left in board.left_out:
        print(f"left out: {left.place}: {left.reason}")
    runs = sum(len(entry.scores) for entry in board.entries)
    print(f"{len(board.entries)} entries of {runs} runs, {len(board.left_out)} left out")
    print(f"page: {values.out / 'index.html'}; Markdown: {values.folder / 'README.md'}")
    return 0
