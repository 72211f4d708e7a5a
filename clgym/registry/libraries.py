"""Libraries that take seconds to import, and which of them a plugin's file imports.

The server process from which learners are forked imports them once, before the first fork. It must
not read anything of a plugin, so the gym parses the file's import statements and names libraries by
number.
"""

import ast
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

__all__ = ["LIBRARIES", "libraries_of"]

LIBRARIES = ("torch._dynamo", "clgym.avalanche.sgd", "timm")
"""Modules that the server of learners imports on request; a request names them by number."""

_LEAD_TO = {"clgym.avalanche": (0, 1), "avalanche": (0, 1), "timm": (2,)}
"""Libraries by the name of the package that imports them. An optimizer of Avalanche's loop imports
torch's compiler with its first step."""
_FOLLOWED = ("clgym.models.", "clgym.strategies.", "clgym.adaptation")


@lru_cache(maxsize=256)
def libraries_of(path: Path) -> frozenset[int]:
    """Numbers of the libraries that a plugin's import loads, as far as its text shows.

    A wrong guess only costs time, since a learner imports what the server did not.
    """
    found: set[int] = set()
    due, read = [path], set[Path]()
    while due:
        file = due.pop()
        if file in read:
            continue
        read.add(file)
        for name in _imported(file):
            package = next((p for p in _LEAD_TO if name == p or name.startswith(f"{p}.")), None)
            if package is not None:
                found.update(_LEAD_TO[package])
            elif name.startswith(_FOLLOWED) and (origin := _file_of(name)) is not None:
                due.append(origin)
    return frozenset(found)


def _imported(file: Path) -> Iterator[str]:
    """Modules that a file imports at import time, without those in functions and for types only."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # a later import reports what is wrong with the file
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file_of(name: str) -> Path | None:
    """File of one of clgym's modules, found without import; None for names inside a module."""
    package, _, inner = name.partition(".")
    room, _, module = inner.partition(".")
    spec = importlib.util.find_spec(f"{package}.{room}")
    if spec is None or spec.origin is None:
        return None
    places = [Path(spec.origin)]
    if module:
        places = [Path(folder, f"{module}.py") for folder in spec.submodule_search_locations or ()]
    return next((place for place in places if place.is_file()), None)
