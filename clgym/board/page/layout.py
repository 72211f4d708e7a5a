"""The board as one self-contained HTML file and as Markdown: the same cells in both."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

from clgym._version import __version__
from clgym.board.page.charts import across_charts, protocol_chart, table_charts
from clgym.board.page.claims import (
    CLAIM_COLUMNS,
    TESTED_COLUMNS,
    PaperClaims,
    tested_lines,
    tested_table,
)
from clgym.board.page.details import details_of
from clgym.board.page.legend import LEGEND
from clgym.board.page.links import Links
from clgym.board.page.overview import DOUBTFUL, measure_of, overview_of
from clgym.board.page.tables import BoardRow, BoardTable
from clgym.board.reading.entries import Board

__all__ = ["HEAD", "as_html", "as_markdown"]

_HERE = Path(__file__).parent
HEAD = "# Leaderboard\n\nRendered by `clgym board`; do not edit."
"""First lines of a README that `clgym board` may overwrite."""
WHAT = (
    "This board measures continual learners, which see their data one part after another, by how "
    "much they still know at the end: the gym keeps all test labels out of their reach and "
    "recomputes every number on this page from stored predictions."
)
"""What the board is, in one sentence."""


def as_html(
    board: Board, tables: Sequence[BoardTable], papers: Sequence[PaperClaims], links: Links
) -> str:
    """Return the HTML page. Equal boards give equal bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        style=Markup(_asset("../style.css")),  # nosec B704 # a file of ours
        script=Markup(script),  # nosec B704 # a file of ours
        script_hash=digest,
        data=Markup(_embedded(tables)),  # nosec B704 # JSON with every < escaped
        what=WHAT,
        links=links,
        overview=overview_of(tables),
        measure_of=measure_of,
        doubtful=DOUBTFUL,
        protocol=protocol_chart(tables),
        tables=[_with_extras(table) for table in tables],
        across=across_charts(tables),
        papers=papers,
        claim_columns=CLAIM_COLUMNS,
        left_out=board.left_out,
        legend=LEGEND,
        streams=sorted({table.title for table in tables}),
        modes=list(dict.fromkeys(mode for table in tables for mode in table.modes)),
        counts=_counts(board),
        tested=tested_table(papers),
        tested_columns=TESTED_COLUMNS,
        tested_lines=tested_lines(papers),
        version=__version__,
    )


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _embedded(tables: Sequence[BoardTable]) -> str:
    """Details by entry as JSON, with every ``<`` escaped, so that none ends the script element."""
    details = {row.entry.id: details_of(table, row) for table in tables for row in table.rows}
    text = json.dumps(details, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _counts(board: Board) -> dict[str, int]:
    return {
        "entries": len(board.entries),
        "runs": sum(len(entry.scores) for entry in board.entries),
        "verified": sum(entry.verified for entry in board.entries),
    }


def _with_extras(table: BoardTable) -> dict[str, object]:
    """A table with what only the HTML page shows: figures and the positions of intervals."""
    ends = [v for row in table.rows for v in _extent(row)]
    rows = [
        _row_extras(table, row, min(ends), max(ends)) if ends else _plain(row) for row in table.rows
    ]
    return {**vars(table), "name": table.name, "rows": rows, "charts": table_charts(table)}


def _extent(row: BoardRow) -> list[float]:
    return [*(row.interval or ()), *([] if row.mean is None else [row.mean])]


def _plain(row: BoardRow) -> dict[str, object]:
    figure, bracket, rest = row.cells["score"].text.partition(" [")
    more = {"mode": row.mode, "anchor": row.anchor, "whisker": None}
    return {**vars(row), **more, "figure": figure, "span": (bracket + rest).strip()}


def _row_extras(table: BoardTable, row: BoardRow, low: float, high: float) -> dict[str, object]:
    plain = _plain(row)
    if row.mean is None or high <= low:
        return plain

    def place(value: float) -> float:
        share = (value - low) / (high - low)
        return round(100 * (1 - share if table.adaptation else share), 2)

    first, last = sorted(place(v) for v in (row.interval or (row.mean, row.mean)))
    whisker = {"left": first, "width": round(last - first, 2), "at": place(row.mean)}
    return {**plain, "whisker": whisker}


def as_markdown(board: Board, tables: Sequence[BoardTable], papers: Sequence[PaperClaims]) -> str:
    """Return the same tables, claims and exclusions as Markdown."""
    parts = [
        HEAD,
        WHAT,
        "`clgym board leaderboards/ --out site/` renders the same content as a page with figures "
        "and details.",
    ]
    if not tables:
        parts.append("This board is empty: there is no record below `records/` that can be shown.")
    else:
        parts += ["## Overview", _overview(tables)]
    for table in tables:
        parts += [f"## {_escaped(table.name)}", _escaped(table.about)]
        if table.shared_flags:
            parts.append(f"All rows: {_escaped('; '.join(table.shared_flags))}")
        body = [[row.cells[c.key].text for c in table.columns] for row in table.rows]
        numeric = [column.numeric for column in table.columns]
        parts.append(_grid([column.title for column in table.columns], body, numeric))
    if papers:
        parts.append("## Claims of papers")
    if tested := tested_table(papers):
        parts.append("; ".join(tested_lines(papers)) + ".")
        parts.append(_grid(TESTED_COLUMNS, tested))
    for paper in papers:
        title = _escaped(paper.title)
        parts.append(f"### {title}\n\n<{paper.link}>" if paper.link else f"### {title}")
        parts.append(_grid(CLAIM_COLUMNS, paper.claims))
    if board.left_out:
        parts.append("## Left out")
        parts.append(
            _grid(("Folder", "Reason"), [(left.place, left.reason) for left in board.left_out])
        )
    parts.append("## How to read this page")
    parts += [f"- **{name}**: {text}" for name, text in LEGEND]
    return "\n\n".join(parts[: -len(LEGEND)]) + "\n\n" + "\n".join(parts[-len(LEGEND) :]) + "\n"


def _overview(tables: Sequence[BoardTable]) -> str:
    """The matrix of methods by streams."""
    matrix = overview_of(tables)
    heads = [
        _escaped(f"{table.title} {table.part} {measure_of(table)}") for table in matrix.columns
    ]
    body = [
        [
            line.method,
            *(
                f"{cell.text} {cell.note}".strip() if cell else DOUBTFUL if doubtful else ""
                for cell, doubtful in zip(line.cells, line.doubtful, strict=True)
            ),
        ]
        for line in matrix.lines
    ]
    return _grid(["Method", *heads], body)


def _grid(head: Sequence[str], body: Sequence[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    rule = ["--:" if numeric and numeric[i] else "---" for i in range(len(head))]
    lines = [head, rule, *([_escaped(text) for text in row] for row in body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Text on one line, escaped so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
