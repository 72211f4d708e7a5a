r"""A table as text: Markdown, LaTeX with booktabs, CSV and HTML.

Names in records may contain markup of any kind: each format escapes them.
"""

import csv
import html
import io
from collections.abc import Callable, Sequence

from clgym.board.summary.model import SummaryCell, TableModel
from clgym.errors import UnknownName, near

__all__ = ["FORMATS", "cell_text", "heads_of", "render"]


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip
_MARKDOWN = frozenset("\\`*_{}[]<>&|~$#")


def render(table: TableModel, kind: str) -> str:
    """Write a table as text.

    Args:
        table: The table.
        kind: One of `FORMATS`.

    Returns:
        Text that ends with a line break.

    Raises:
        UnknownName: There is no such format.
    """
    if kind not in FORMATS:
        raise UnknownName(
            expected=f"a format ({', '.join(FORMATS)})",
            found=repr(kind),
            fix=f"{near(kind, FORMATS)}Choose one of them",
        )
    return FORMATS[kind](table)


def cell_text(cell: SummaryCell | None, varied: bool, pm: str = "±") -> str:
    """Mean and spread in percent or points; also n if the cells of the table differ in it."""
    if cell is None:
        return "–"
    text = f"{100 * cell.mean:.2f}"
    if cell.spread is not None:
        text += f" {pm} {100 * cell.spread:.2f}"
    return f"{text} (n={cell.n})" if varied else text


def heads_of(table: TableModel) -> list[str]:
    """Titles of the columns of numbers, in the order of the cells."""
    several = len(table.columns) > 1
    return [
        f"{column}: {measure.title}" if several else measure.title
        for column in table.columns
        for measure in table.measures
    ]


def _cells(table: TableModel, row: str) -> list[SummaryCell | None]:
    return [table.cell(row, column, m) for column in table.columns for m in table.measures]


def _plain(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


# --- Markdown ------------------------------------------------------------------------------------


def _escape_markdown(text: str) -> str:
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in _plain(text))


def _markdown(table: TableModel) -> str:
    heads = [table.head, *heads_of(table)]
    lines = [_line(map(_escape_markdown, heads)), _line(["---", *["---:"] * (len(heads) - 1)])]
    for row in table.rows:
        texts = [_marked_in_markdown(cell, table.varied) for cell in _cells(table, row)]
        lines.append(_line([_escape_markdown(row), *texts]))
    notes = [table.caption, *table.notes]
    return "\n".join([*lines, "", *(f"{_escape_markdown(note)}  " for note in notes)]) + "\n"


def _line(texts: "Sequence[str] | map[str]") -> str:
    return f"| {' | '.join(texts)} |"


def _marked_in_markdown(cell: SummaryCell | None, varied: bool) -> str:
    text = cell_text(cell, varied)
    if cell is not None and cell.standing in ("best", "tied"):
        # Markdown has no underline of its own.
        return f"**{text}**" if cell.standing == "best" else f"<u>{text}</u>"
    return text


# --- LaTeX ---------------------------------------------------------------------------------------


def escape_latex(text: str) -> str:
    """Escape any text for LaTeX."""
    return "".join(_LATEX.get(c, c) for c in _plain(text))


def _latex(table: TableModel) -> str:
    numbers = len(table.columns) * len(table.measures)
    lines = [
        r"% \usepackage{booktabs} in the preamble",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * numbers}}}",
        r"\toprule",
        *_latex_heads(table),
        r"\midrule",
    ]
    for row in table.rows:
        texts = [_marked_in_latex(cell, table.varied) for cell in _cells(table, row)]
        lines.append(" & ".join([escape_latex(row), *texts]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {escape_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_heads(table: TableModel) -> list[str]:
    """One line of titles; two where several columns have several measures."""
    measures, columns = table.measures, table.columns
    first = escape_latex(table.head.capitalize())
    if len(columns) == 1 or len(measures) == 1:
        heads = heads_of(table) if len(columns) == 1 else list(columns)
        return [" & ".join([first, *map(escape_latex, heads)]) + r" \\"]
    size = len(measures)
    groups = [rf"\multicolumn{{{size}}}{{c}}{{{escape_latex(column)}}}" for column in columns]
    ends = [(2 + i * size, 1 + (i + 1) * size) for i in range(len(columns))]
    rules = " ".join(rf"\cmidrule(lr){{{low}-{high}}}" for low, high in ends)
    titles = [escape_latex(m.title) for m in measures] * len(columns)
    return [" & ".join(["", *groups]) + r" \\", rules, " & ".join([first, *titles]) + r" \\"]


def _marked_in_latex(cell: SummaryCell | None, varied: bool) -> str:
    if cell is None:
        return "--"
    text = cell_text(cell, varied, r"$\pm$")
    text = f"$-${text[1:]}" if text.startswith("-") else text
    if cell.standing in ("best", "tied"):
        return rf"\{'textbf' if cell.standing == 'best' else 'underline'}{{{text}}}"
    return text


# --- CSV and HTML --------------------------------------------------------------------------------


def _csv(table: TableModel) -> str:
    """One line for each cell, for other programs: full precision, as fractions."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    other: str = "scenario" if table.head == "strategy" else "strategy"
    writer.writerow([table.head, other, "measure", "mean", table.spread, "n", "standing"])
    for row in table.rows:
        for column in table.columns:
            for measure in table.measures:
                if (cell := table.cell(row, column, measure)) is not None:
                    facts = [cell.mean, cell.spread, cell.n, cell.standing]
                    writer.writerow([_plain(row), _plain(column), measure.name, *facts])
    return file.getvalue()


def _html(table: TableModel) -> str:
    """A table element, for a page or a notebook."""
    lines = ["<table>", f"<caption>{html.escape(_plain(table.caption))}</caption>", "<thead>"]
    lines += [_html_row([html.escape(_plain(h)) for h in [table.head, *heads_of(table)]], "th")]
    lines += ["</thead>", "<tbody>"]
    for row in table.rows:
        texts = [_marked_in_html(cell, table.varied) for cell in _cells(table, row)]
        lines.append(_html_row([html.escape(_plain(row)), *texts], "td"))
    lines += ["</tbody>", "</table>"]
    lines += [f"<p>{html.escape(_plain(note))}</p>" for note in table.notes]
    return "\n".join(lines) + "\n"


def _html_row(texts: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"


def _marked_in_html(cell: SummaryCell | None, varied: bool) -> str:
    text = html.escape(cell_text(cell, varied))
    tag = {"best": "b", "tied": "u"}.get(cell.standing, "") if cell else ""
    return f"<{tag}>{text}</{tag}>" if tag else text


FORMATS: dict[str, Callable[[TableModel], str]] = {
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "html": _html,
}
"""Formats of a table by name."""
