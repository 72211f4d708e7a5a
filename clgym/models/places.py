"""Places where this process has looked for weights, found or not.

What a strategy says of its backbone follows from them: an answer that is kept for the next command
names them, and is asked for anew when one of them has changed.
"""

from pathlib import Path

__all__ = ["note_place", "places_looked_at"]

_places: dict[str, None] = {}


def note_place(*paths: Path) -> None:
    """Note files and folders; in the order of looking, each once."""
    _places.update(dict.fromkeys(str(path.absolute()) for path in paths))


def places_looked_at() -> tuple[str, ...]:
    """Absolute paths of all places that were noted."""
    return tuple(_places)
