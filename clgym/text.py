"""Text from records, data sets and plugins, made fit to be shown."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

__all__ = [
    "LONGEST",
    "LONGEST_IN_RECORDS",
    "Json",
    "first_unprintable",
    "printable",
    "printable_tree",
]

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
"""What a JSON file can hold. Tuples count as lists."""

LONGEST = 1000
"""Characters that one piece of text may take in a message or on a terminal."""
LONGEST_IN_RECORDS = 10_000
"""Characters that one string of a record may have."""
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that move the cursor, change the reading direction or show nothing."""
_KEPT = "\n\t"


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Show what a terminal would obey as an escape (``\u001b``), and cut what is too long.

    Args:
        text: Of any origin.
        longest: Characters of what is returned. Shown again, it stays as it is.
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
    """Nested dicts, lists and tuples with every string as a record may hold it."""
    if isinstance(value, str):
        return printable(value, LONGEST_IN_RECORDS)
    if isinstance(value, dict):
        return {printable_tree(key): printable_tree(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_tree(item) for item in value]
    return value


def first_unprintable(value: object) -> str | None:
    """The first string of a tree that a record may not hold, fit to be shown; None if all may."""
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
