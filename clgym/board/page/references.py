"""The paper that introduced a strategy, as the docstring of its file cites it."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clgym.board.reading.entries import BoardEntry
from clgym.board.reading.source_files import built_in, file_that_ran

__all__ = ["Reference", "cited_in", "reference_of"]

_YEAR = re.compile(r"(?:\b([A-Z]{3,})\s+)?\b((?:19|20)\d\d)\b(?!\.\d)")
"""A venue, if written in capitals, and a year, but not the first half of arXiv 2004.07211."""
_NUMBER = re.compile(
    r"(?:arXiv\s+|https://arxiv\.org/abs/)(?P<arxiv>\d{4}\.\d{4,5})"
    r"|https://doi\.org/(?P<doi>10\.\d{4,9}/[\w.()/:-]*\w)"
)
_BETWEEN = re.compile(r"""(?:,\s*"[^"]*")?[\s,;(]*""")
"""Text allowed between a year and the number of the same paper: the title and punctuation."""


@dataclass(frozen=True)
class Reference:
    """The first paper that a strategy's docstring cites."""

    name: str = ""
    """Text of the reference, such as ``arXiv 1611.07725``; empty if no paper is cited."""
    year: int | None = None
    link: str = ""


def reference_of(entry: BoardEntry, sent: Sequence[Path]) -> Reference:
    """Return the paper of an entry's strategy; for a wrapper, the wrapper's own paper.

    Args:
        entry: The entry.
        sent: Python files that came with its runs.
    """
    facts = entry.scores[0].record.result.strategy
    known = built_in(facts.name)
    if known is not None:
        return cited_in(known.doc) if known.argument is None else Reference()
    file = file_that_ran(facts, sent)
    try:
        return Reference() if file is None else cited_in(ast.get_docstring(_parsed(file)) or "")
    except (SyntaxError, ValueError):
        return Reference()


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes())


def cited_in(text: str) -> Reference:
    """Find the first paper that a text cites.

    A citation is a year with an arXiv number or a DOI directly after it, such as ``CVPR 2017 (arXiv
    1611.07725)``. A number further on belongs to another paper: the first paper is then named by
    its venue, without a link. In a text without any year, the first arXiv number is the citation.
    """
    year = _YEAR.search(text)
    if year is None:
        first = _NUMBER.search(text)
        return Reference() if first is None or first["arxiv"] is None else _numbered(first, None)
    between = _BETWEEN.match(text, year.end())
    number = _NUMBER.match(text, between.end() if between else year.end())
    if number is not None:
        return _numbered(number, int(year[2]))
    return Reference(f"{year[1]} {year[2]}" if year[1] else "", int(year[2]))


def _numbered(number: re.Match[str], year: int | None) -> Reference:
    """The paper of an arXiv number, whose first two digits are its year, or of a DOI."""
    if number["doi"] is not None:
        return Reference(f"doi {number['doi']}", year, f"https://doi.org/{number['doi']}")
    name = number["arxiv"]
    return Reference(f"arXiv {name}", year or 2000 + int(name[:2]), f"https://arxiv.org/abs/{name}")
