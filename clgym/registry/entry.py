"""A plugin as its file describes it, without running it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["PluginEntry", "Kind"]

Kind = Literal["strategies", "scenarios", "sources"]


@dataclass(frozen=True)
class PluginEntry:
    """A plugin as its file describes it, without running it."""

    name: str
    kind: Kind
    origin: str
    """Origin of the plugin: built-in, a distribution's name, or a file's name."""
    path: Path
    """Path of the file; of a plugin that is a folder that of its ``__init__.py``."""
    module: str
    """Import name; generated for a file that the user gave."""
    summary: str = ""
    doc: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of each preset by its name."""
    aliases: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    error: str | None = None
    attribute: str | None = None
    """Name of the class, if an entry point or the user gives it."""
    given: str = ""
    """Path of the file as the user wrote it."""
    cls: type | None = None
    """The class itself, if it was registered in this process."""
    argument: str | None = None
    """Text after the colon: ``EWC`` in ``avalanche:EWC``."""

    @property
    def file_name(self) -> str:
        """Name of the file in messages; for a plugin that is a folder, with the folder's name."""
        if self.path.name != "__init__.py":
            return self.path.name
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def source_hash(self) -> str:
        """Hexadecimal SHA-256 of the plugin's file; for a folder, of its ``__init__.py``.

        The record lists the other files of a folder as files that the plugin has read.
        """
        import hashlib  # imported here, since it loads OpenSSL, which `clgym list` does not need

        return hashlib.sha256(self.path.read_bytes()).hexdigest()
