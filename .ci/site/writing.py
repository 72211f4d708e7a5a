"""Small pieces of Markdown: tables, and docstrings as prose."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["cell", "folded", "prose", "table"]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows as a Markdown table; "" without a row."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *lines, ""])


def cell(text: str) -> str:
    """Text for a table's cell: in one line, with nothing that ends it or is taken for HTML."""
    words = " ".join(str(text).split())
    return "".join(_escaped(part) for part in re.split(r"(`+[^`]+`+)", words))


def folded(texts: Sequence[str]) -> str:
    """Texts for a table's cell: their number, which shows them when it is clicked."""
    if not texts:
        return "none"
    items = "".join(f"<li>{_escaped(' '.join(text.split()))}</li>" for text in texts)
    return f"<details><summary>{len(texts)}</summary><ul>{items}</ul></details>"


def prose(doc: str) -> str:
    """A docstring as Markdown: ``::`` begins a block of text, wherever it stands."""
    lines = doc.splitlines()
    done: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.rstrip().endswith("::"):
            done.append(_escaped_line(line))
            continue
        done += [_escaped_line(line.rstrip()[:-1]), ""]
        end = _end_of_block(lines, number, _indent(line))
        inside_item = bool(_indent(line) or re.match(r"(\*|\d+\.) ", line))
        done += _fenced(lines[number:end], inside_item)
        number = end
    return "\n".join(done).strip() + "\n"


def _end_of_block(lines: Sequence[str], start: int, outer: int) -> int:
    """Index of the first line behind ``start`` that is not indented deeper than ``outer``."""
    for number in range(start, len(lines)):
        if lines[number].strip() and _indent(lines[number]) <= outer:
            return number
    return len(lines)


def _fenced(block: Sequence[str], inside_item: bool) -> list[str]:
    filled = [line for line in block if line.strip()]
    cut = min((_indent(line) for line in filled), default=0)
    body = "\n".join(line[cut:] for line in block).strip("\n").splitlines()
    # Below an item of a list, the block belongs to the item: four spaces, as Markdown asks.
    pad = "    " if inside_item else ""
    return [*(pad + line if line else "" for line in ["```text", *body, "```"]), ""]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _escaped_line(line: str) -> str:
    """A line of prose whose items continue as Markdown wants it, without accidental HTML."""
    parts = re.split(r"(`+[^`]+`+)", line)
    return "".join(part if part[:1] == "`" else part.replace("<", "&lt;") for part in parts)


def _escaped(part: str) -> str:
    if part[:1] == "`":
        return part.replace("|", "&#124;") if "|" not in part else f"<code>{_plain(part)}</code>"
    return part.replace("<", "&lt;").replace("|", "&#124;").replace("*", "&#42;")


def _plain(code: str) -> str:
    return code.strip("`").replace("<", "&lt;").replace("|", "&#124;")
