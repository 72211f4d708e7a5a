"""Counts and names in warnings and messages."""

import re
from collections.abc import Sequence

__all__ = ["class_words", "counted", "names_in_words"]

_NAMED = 10
"""Maximum number of names that are listed."""


def counted(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def class_words(ids: Sequence[str]) -> tuple[str, ...] | None:
    """Class names in words: ``cifar100/maple_tree`` and ``2:maple-tree`` are ``maple tree``.

    Returns:
        None where a class has no name: a number that no dataset declares as one, or an identifier
        of WordNet.
    """
    numbered = re.compile(r"(\d+:)?\d+")  # `digits/3` is a name, `3` is none
    bare = [re.sub(r"^\d+:", "", name).rpartition("/")[2] for name in ids]
    words = [re.sub(r"[_\-\s]+", " ", name).strip() for name in bare]
    nameless = any(numbered.fullmatch(name) for name in ids)
    nameless |= any(not name or re.fullmatch(r"n\d{8}", name) for name in words)
    return None if nameless else tuple(words)


def names_in_words(names: Sequence[str]) -> str:
    """The first names of a list, and the number of further ones."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
