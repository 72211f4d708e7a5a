"""Places where this process has looked for weights, found or not.

A strategy's description depends on whether weights were found. A description that is cached for the
next command names these places, and is computed again if one of them has changed.
"""

from pathlib import Path

__all__ = ["note_place", "places_looked_at"]

_places: dict[str, None] = {}


def note_place(*paths: Path) -> None:
    """Note files and folders, each once, in the order of the search."""
    _places.update(dict.fromkeys(str(path.absolute()) for path in paths))


def places_looked_at() -> tuple[str, ...]:
    """Absolute paths of all places that were noted."""
    return tuple(_places)
