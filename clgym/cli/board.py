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
    parser.add_argument(
        "--repository",
        metavar="URL",
        help="Address of the repository, which the page links to. (default: that of the installed "
        "package, if it states one)",
    )
    parser.add_argument(
        "--docs",
        metavar="URL",
        help="Address of the documentation, which the page links to. (default: that of the "
        "installed package, if it states one)",
    )
    values = parser.parse(words)

    from clgym.board.page.links import CSV, Links
    from clgym.board.page.render import render

    links = Links.of_installation(values.repository, values.docs)
    board = render(values.folder, values.out, links)
    for left in board.left_out:
        print(f"left out: {left.place}: {left.reason}")
    runs = sum(len(entry.scores) for entry in board.entries)
    print(f"{len(board.entries)} entries of {runs} runs, {len(board.left_out)} left out")
    print(
        f"page: {values.out / 'index.html'}; CSV: {values.out / CSV}; "
        f"Markdown: {values.folder / 'README.md'}"
    )
    return 0
