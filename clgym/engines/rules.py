"""Rights that a sandboxed process keeps, in a form that every kind of sandbox understands."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Rules"]


@dataclass(frozen=True)
class Rules:
    """Paths that remain allowed, with everything below them; missing ones are skipped."""

    read: Iterable[Path] = ()
    """Paths that may be read and executed."""
    names: Iterable[Path] = ()
    """Folders that may be listed."""
    write: Iterable[Path] = ()
    """Paths where files and folders may be read and written."""
    change: Iterable[Path] = ()
    """Existing files that may be written."""
    devices: Iterable[Path] = ()
    """Devices that may be read, written and controlled."""
