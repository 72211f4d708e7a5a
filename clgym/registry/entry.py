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
    """Where it comes from: built-in, a distribution's name, or a file's name."""
    path: Path
    module: str
    """Import name; made up for a file that the user named."""
    summary: str = ""
    doc: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options of each preset by its name."""
    aliases: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    error: str | None = None
    attribute: str | None = None
    """The class to take, where an entry point or the user names it."""
    given: str = ""
    """As the user named the file."""
    cls: type | None = None
    """The class itself, where it was registered in this process."""
    argument: str | None = None
    """What stood after the colon: ``EWC`` in ``avalanche:EWC``."""

    @property
    def source_hash(self) -> str:
        """SHA-256 of the plugin's file, hex."""
        import hashlib  # here, since it loads OpenSSL, which `clgym list` has no use for

        return hashlib.sha256(self.path.read_bytes()).hexdigest()
