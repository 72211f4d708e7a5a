"""Parts of a report: sections of facts, tables, figures and notes, laid out by the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ReportFacts", "Note", "Picture", "Section", "ReportTable", "percent", "points", "said"]


@dataclass(frozen=True)
class ReportFacts:
    """Names and values."""

    rows: Mapping[str, Any]
    kind: str = "facts"


@dataclass(frozen=True)
class ReportTable:
    """Rows of cells below headings; the first column names the row."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: frozenset[int] = frozenset({0})
    """Indices of the columns that contain words; the others contain numbers."""
    folded: bool = False
    """Whether the table is collapsed until a reader opens it."""
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A figure as an HTML element."""

    caption: str
    svg: str
    kind: str = "picture"


@dataclass(frozen=True)
class Note:
    """A sentence."""

    text: str
    kind: str = "note"


@dataclass
class Section:
    """A heading with its parts."""

    title: str
    parts: list[Any] = field(default_factory=list)


def said(value: Any) -> str:
    """Format a value of a record in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {said(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(said, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of fractions, in points."""
    return "-" if value is None else f"{100 * value:+.2f}"
