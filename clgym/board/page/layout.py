"""The board as one self-contained HTML file and as Markdown: the same cells in both."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clgym._version import __version__
from clgym.board.figures.profiles import LEAST
from clgym.board.page.charts import across_charts, table_charts
from clgym.board.page.claims import (
    CLAIM_COLUMNS,
    TESTED_COLUMNS,
    PaperClaims,
    tested_lines,
    tested_table,
)
from clgym.board.page.details import details_of
from clgym.board.page.tables import BY_HAND, BoardRow, BoardTable
from clgym.board.reading.entries import Board
from clgym.board.stats import MOST_LETTERED, RESAMPLES

__all__ = ["HEAD", "LEGEND", "as_html", "as_markdown"]

_HERE = Path(__file__).parent
HEAD = "# Leaderboard\n\nRendered by `clgym board`; do not edit."
"""By which a README that may be written over is known."""
LEGEND = (
    (
        "Mean, interval",
        "Mean over all runs of a row; in brackets its 95 % interval by a stratified percentile "
        f"bootstrap over seeds ({RESAMPLES:,} resamples). One seed has no interval, nor have "
        "seeds that all ended at the same accuracy. With two or three seeds an interval is too "
        "narrow.",
    ),
    (
        "Rank",
        "Rows stand in the order of their mean. A rank is an interval: from one more than the "
        "number of rows that are clearly better to the number of ranked rows less those that are "
        "clearly worse. Clearly: the 95 % interval of the difference (Student's, paired by seed "
        "where seeds are shared, else Welch's) leaves out zero. Intervals are of one pair of rows "
        "each, not corrected for the number of pairs. Rows with one seed, or with a failed one, "
        "are not ranked.",
    ),
    (
        "Group",
        "Two rows that share a letter are not told apart; two that share none are (a compact "
        f"letter display). Tables of more than {MOST_LETTERED} ranked rows have none.",
    ),
    (
        "Modes",
        "What could be looked at when settings were chosen. Modes are never ranked together, nor "
        f"with runs whose settings were given by hand ({BY_HAND}).",
    ),
    (
        "transfer, default",
        "Modes. transfer: settings were chosen on the tuning side of a pair, on other data than "
        "those of the table. default: the strategy's own settings, nothing was tuned.",
    ),
    (
        "Claims of papers",
        "reproduced: within the tolerance. An order is judged by the 95 % interval of the "
        "difference: reproduced if it excludes zero; within noise if it does not. How large a "
        "difference a paper states (by ... points) is shown and not judged. Behind where it "
        "stands, how it is known: verified (read there), log (of the authors), abstract, "
        "remembered, inferred (it follows from the method), own (no paper states it). A number "
        "that is inferred holds by construction. Rows of full scale are of the paper's size, of "
        "lite scale not: they are counted apart.",
    ),
    (
        "Performance profile",
        "In how many of the streams drawn a method's error is within a factor of the lowest error "
        "of all rows there, drawn or not. Drawn are methods that all stand in all these streams; "
        f"there is no profile of fewer than {LEAST} methods or streams. Of a strategy's variants "
        "in a table the one is drawn whose options stand in most tables, of equals the first by "
        "the text of their options: no score is looked at.",
    ),
    (
        "verified",
        "Recomputed from predictions: accuracies, errors and forgetting follow from kept "
        "predictions, and of an evaluation certificate, ledger and records check out. Nothing was "
        "run again; times, memory and parameters are as the records say.",
    ),
    (
        "self-reported",
        "Every number follows from the record's accuracy matrix, but predictions of some runs are "
        "not here.",
    ),
    (
        "Time",
        "Of an evaluation all trials of the tuning and all seeds; of other rows one run. It "
        "compares only within one device: see a row's environment.",
    ),
    (
        "Flags",
        "What a reader should know before believing a row: other images or weights than the known "
        "ones, classes that the pretraining names too, failed or missing seeds, seeds that changed "
        "nothing, earlier studies and evaluations, declared failures of checks, a strategy whose "
        "file is not here or has changed.",
    ),
)


def as_html(board: Board, tables: Sequence[BoardTable], papers: Sequence[PaperClaims]) -> str:
    """The page. Equal boards give equal bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        style=Markup(_asset("../style.css")),
        script=Markup(script),
        script_hash=digest,
        data=Markup(_embedded(tables)),
        tables=[_with_extras(table) for table in tables],
        across=across_charts(tables),
        papers=papers,
        claim_columns=CLAIM_COLUMNS,
        left_out=board.left_out,
        legend=LEGEND,
        streams=sorted({table.title for table in tables}),
        modes=list(dict.fromkeys(table.mode for table in tables)),
        counts=_counts(board),
        tested=tested_table(papers),
        tested_columns=TESTED_COLUMNS,
        tested_lines=tested_lines(papers),
        version=__version__,
    )


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _embedded(tables: Sequence[BoardTable]) -> str:
    """Details by entry. No ``<`` is left that could end the script element."""
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


def _with_extras(table: BoardTable) -> dict[str, Any]:
    """A table with what only the page shows: figures, and where intervals lie."""
    ends = [v for row in table.rows for v in _extent(row)]
    rows = [
        _row_extras(table, row, min(ends), max(ends)) if ends else _plain(row) for row in table.rows
    ]
    return {**vars(table), "rows": rows, "charts": table_charts(table)}


def _extent(row: BoardRow) -> list[float]:
    return [*(row.interval or ()), *([] if row.mean is None else [row.mean])]


def _plain(row: BoardRow) -> dict[str, Any]:
    figure, bracket, rest = row.cells["score"].text.partition(" [")
    return {**vars(row), "figure": figure, "span": (bracket + rest).strip(), "whisker": None}


def _row_extras(table: BoardTable, row: BoardRow, low: float, high: float) -> dict[str, Any]:
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
    """The same tables, claims and reasons as the page."""
    parts = [
        HEAD,
        "The same content as a page with figures and "
        "details: `clgym board leaderboards/ --out site/`.",
    ]
    if not tables:
        parts.append(
            "This board is empty: below `records/` there is no record that could be shown."
        )
    for table in tables:
        part = f", {_escaped(table.part)}" if table.part else ""
        parts.append(f"## {_escaped(table.title)}{part}: {_escaped(table.mode)}")
        parts.append(_escaped(table.about))
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


def _grid(head: Sequence[str], body: Sequence[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    rule = ["--:" if numeric and numeric[i] else "---" for i in range(len(head))]
    lines = [head, rule, *([_escaped(text) for text in row] for row in body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
