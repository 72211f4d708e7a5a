"""Counts and names in warnings and messages."""

from collections.abc import Sequence

__all__ = ["counted", "names_in_words"]

_NAMED = 10
"""Maximum number of names that are listed."""


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def names_in_words(names: Sequence[str]) -> str:
    """The first names of a list, and the number of further ones."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
