"""The board as one self-contained HTML file and as Markdown: the same cells in both."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

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
"""First lines of a README that `clgym board` may overwrite."""
LEGEND = (
    (
        "Mean, interval",
        "The mean over the seeds of a row, with its 95 % interval in brackets: a stratified "
        f"percentile bootstrap over seeds ({RESAMPLES:,} resamples). There is no interval for one "
        "seed, or if all seeds have the same accuracy. With two or three seeds the interval is "
        "too narrow.",
    ),
    (
        "Rank",
        "Rows are sorted by their mean. A rank is an interval, such as 2–4: one more than the "
        "number of rows that are significantly better, up to the number of ranked rows minus "
        "those that are significantly worse. A difference is significant if its 95 % interval "
        "(Student's t, paired by seed where both rows have the same seeds, else Welch's) excludes "
        "zero. The intervals are not corrected for the number of pairs. Rows with a single seed "
        "or a failed seed are not ranked.",
    ),
    (
        "Group",
        "A compact letter display: two rows that share a letter do not differ significantly, two "
        f"rows that share none do. Tables with more than {MOST_LETTERED} ranked rows have no "
        "letters.",
    ),
    (
        "Modes",
        "The data that tuning could use to choose hyper-parameters. Each mode has its own tables "
        f"and ranks, and so have runs without a certificate: {BY_HAND}.",
    ),
    (
        "transfer, default",
        "Two modes. transfer: hyper-parameters were tuned on other data, the tuning side of a "
        "pair. default: the strategy's default hyper-parameters, without tuning.",
    ),
    (
        "Claims of papers",
        "A number is reproduced if it lies within the tolerance. An order of two methods is "
        "reproduced if the 95 % interval of their difference excludes zero, and within noise "
        "otherwise. The size of a reported difference (by ... points) is shown but not tested. "
        "The word in brackets says how a claim is known: verified (read in the paper), log (read "
        "in the authors' log), abstract (read in the abstract), remembered (not looked up "
        "again), inferred (follows from the method, and so holds by construction), own (stated "
        "by no paper). Full scale is the size of the paper's experiment and lite scale a smaller "
        "one; they are counted separately.",
    ),
    (
        "Performance profile",
        "Share of streams in which a method's error is at most x times the lowest error of all "
        "rows on that stream. The figure shows methods that have results on all of these streams; "
        f"it needs {LEAST} methods and {LEAST} streams. If a strategy has several variants, the "
        "one whose options occur in most tables is shown (on a tie, the first in alphabetical "
        "order), whatever its scores.",
    ),
    (
        "verified",
        "Accuracies, errors and forgetting were recomputed from the stored predictions; for an "
        "evaluation, certificate, ledger and records were audited as well. No run was repeated. "
        "Times, memory and parameter counts are those stated in the records.",
    ),
    (
        "self-reported",
        "The numbers agree with the record's accuracy matrix, but the predictions of some runs "
        "are missing, so that the matrix itself cannot be checked.",
    ),
    (
        "Time",
        "Wall-clock time: for an evaluation, of all tuning trials and all seeds; for other rows, "
        "of one run. Compare times only between rows of the same device, which is in the row's "
        "details.",
    ),
    (
        "Warnings",
        "Facts that limit what a row shows: images or weights that differ from the published ones, "
        "classes that the pretraining data also contain, failed or missing seeds, seeds with "
        "identical results, earlier studies and evaluations, declared failures of checks, or a "
        "strategy file that is missing or has changed.",
    ),
)


def as_html(board: Board, tables: Sequence[BoardTable], papers: Sequence[PaperClaims]) -> str:
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


def _with_extras(table: BoardTable) -> dict[str, object]:
    """A table with what only the page shows: figures and the positions of intervals."""
    ends = [v for row in table.rows for v in _extent(row)]
    rows = [
        _row_extras(table, row, min(ends), max(ends)) if ends else _plain(row) for row in table.rows
    ]
    return {**vars(table), "rows": rows, "charts": table_charts(table)}


def _extent(row: BoardRow) -> list[float]:
    return [*(row.interval or ()), *([] if row.mean is None else [row.mean])]


def _plain(row: BoardRow) -> dict[str, object]:
    figure, bracket, rest = row.cells["score"].text.partition(" [")
    return {**vars(row), "figure": figure, "span": (bracket + rest).strip(), "whisker": None}


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
        "`clgym board leaderboards/ --out site/` renders the same content as a page with figures "
        "and details.",
    ]
    if not tables:
        parts.append("This board is empty: there is no record below `records/` that can be shown.")
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
