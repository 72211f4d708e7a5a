"""Render a leaderboards folder as a page and as Markdown."""

from pathlib import Path

from clgym.board.page.claims import read_claims
from clgym.board.page.download import as_csv
from clgym.board.page.layout import HEAD, as_html, as_markdown
from clgym.board.page.links import CSV, Links
from clgym.board.page.tables import tables_of
from clgym.board.reading.entries import Board
from clgym.board.reading.records import read_board
from clgym.errors import BadOutput
from clgym.files import write_atomic, writing

__all__ = ["render"]


def render(root: Path, out: Path, links: Links | None = None) -> Board:
    """Write ``index.html`` and ``board.csv`` to ``out``, and ``root/README.md``.

    Args:
        root: The leaderboards folder.
        out: Folder to which the page is written.
        links: Addresses that the page links to; None if none are known.

    Returns:
        The board that page and Markdown show.

    Raises:
        BadRecord: ``root`` is no leaderboards folder.
        BadOutput: A file cannot be written.
    """
    board = read_board(root)
    _check_own(root / "README.md")
    papers = read_claims(board, root)
    tables = tables_of(board)
    page = as_html(board, tables, papers, links or Links())
    text = as_markdown(board, tables, papers)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "index.html", page.encode())
    write_atomic(out / CSV, as_csv(tables).encode())
    write_atomic(root / "README.md", text.encode())
    return board


def _check_own(file: Path) -> None:
    """Refuse to overwrite a README that was not rendered by clgym.

    Raises:
        BadOutput: The file is not a rendered board.
    """
    if file.is_file() and not file.read_bytes().startswith(HEAD.encode()):
        raise BadOutput(
            expected=f"{file} to be a rendered board, or not to exist",
            found="a different text",
            fix="Move that file: the Markdown board is written there",
        )
