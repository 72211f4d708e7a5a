"""Rows as an HTML table for notebooks; all text of records is escaped."""

import html
from collections.abc import Mapping, Sequence

__all__ = ["html_table"]


def html_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows as a table, without the columns in which no row has a value.

    Args:
        rows: Values by title of the column; all rows have the same titles.
    """
    titles = [t for t in (rows[0] if rows else ()) if any(row[t] is not None for row in rows)]
    head = _html_row("th", titles)
    body = "".join(_html_row("td", [_shown(row[title]) for title in titles]) for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1 else f"{value:.1f}"
    return "" if value is None else str(value)


def _html_row(tag: str, texts: Sequence[str]) -> str:
    cells = "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)
    return f"<tr>{cells}</tr>"
