"""Make text from records, data sets and plugins safe to display."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

__all__ = [
    "LONGEST",
    "LONGEST_IN_RECORDS",
    "Json",
    "duration",
    "first_unprintable",
    "operations",
    "printable",
    "printable_tree",
]

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
"""Values that a JSON file can hold. Tuples count as lists."""

LONGEST = 1000
"""Maximum number of characters of a text in a message or on a terminal."""
LONGEST_IN_RECORDS = 10_000
"""Maximum number of characters of a string in a record."""
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that move the cursor, change the reading direction or are invisible."""
_KEPT = "\n\t"


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Show control characters as escapes (``\u001b``), and shorten long text.

    Args:
        text: Any text.
        longest: Maximum number of characters returned. The function is idempotent.
    """
    shown = "".join(_shown(character) for character in text[:longest])
    if max(len(shown), len(text)) <= longest:
        return shown
    count = f"... ({len(text):,} characters)"
    return shown[: longest - len(count)] + count


def _shown(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable_tree(value: Any) -> Any:
    """Return nested dicts, lists and tuples with every string in printable form."""
    if isinstance(value, str):
        return printable(value, LONGEST_IN_RECORDS)
    if isinstance(value, dict):
        return {printable_tree(key): printable_tree(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_tree(item) for item in value]
    return value


def first_unprintable(value: object) -> str | None:
    """Return the first string of a tree that a record must not contain; None if there is none."""
    if isinstance(value, str):
        fits = len(value) <= LONGEST_IN_RECORDS and (
            value.isprintable() or printable(value, LONGEST_IN_RECORDS) == value
        )
        return None if fits else printable(value, 100)
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return next((odd for v in value if (odd := first_unprintable(v)) is not None), None)
    return None


def duration(seconds: float) -> str:
    """A duration in seconds as text with a readable unit: 42 s, 3:05 min, 2:10 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def operations(count: float) -> str:
    """A number of operations with an SI prefix before its unit: ``3.2 G`` (of FLOP)."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.3g} "
