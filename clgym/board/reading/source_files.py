"""Find the strategy file of a record by its hash. No plugin is imported."""

import functools
import itertools
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from clgym import registry
from clgym.errors import ClgymError
from clgym.files import canonical_json, sha256
from clgym.results.record import StrategyFacts

__all__ = ["built_in", "file_that_ran", "python_files", "unknown_code"]

_LARGEST = 2**20
"""Maximum size in bytes of a file that can be a strategy."""


def python_files(folder: Path) -> list[Path]:
    """Python files below a contributor's folder: small regular files, no links."""
    if folder.is_symlink():
        return []
    walked = ((Path(place), names) for place, _, names in os.walk(folder, followlinks=False))
    found = [place / name for place, names in walked for name in names if name.endswith(".py")]
    return sorted(file for file in found if _ordinary(file))


def _ordinary(file: Path) -> bool:
    facts = file.lstat()
    return stat.S_ISREG(facts.st_mode) and facts.st_size <= _LARGEST


def file_that_ran(facts: StrategyFacts, sent: Sequence[Path]) -> Path | None:
    """Find the file that has a record's hash: the built-in one, or one that came with the record.

    Args:
        facts: Strategy block of the record.
        sent: Files that came with it.
    """
    own = built_in(facts.name)
    files = [*([] if own is None else [own.path]), *sent]
    return next((file for file in files if facts.source_hash in _hashes(file, facts)), None)


def unknown_code(facts: StrategyFacts, sent: Sequence[Path]) -> str | None:
    """Reason why a record's run cannot be repeated with the files at hand; None if it can."""
    if file_that_ran(facts, sent) is not None:
        return None
    if built_in(facts.name) is not None:
        return "run by another version of the strategy's file"
    return "the strategy's file is missing: the run cannot be repeated"


@functools.cache
def built_in(name: str) -> registry.PluginEntry | None:
    """The built-in strategy of a name, if any; cached, since a board asks for each name often."""
    try:
        return registry.find("strategies", name)
    except ClgymError:
        return None


def _hashes(file: Path, facts: StrategyFacts) -> set[str]:
    """Hashes by which a record may name this file: its own, or one that covers wrapped files, too.

    Only the class itself knows which options name a wrapped strategy, and it is not imported here.
    """
    own = sha256(file.read_bytes())
    if own == facts.source_hash:
        return {own}
    entries = [built_in(v) for v in facts.config.values() if isinstance(v, str) and v]
    wrapped = [entry.source_hash for entry in entries if entry is not None][:6]
    chosen: Iterable[tuple[str, ...]] = itertools.chain.from_iterable(
        itertools.combinations(wrapped, n) for n in range(1, len(wrapped) + 1)
    )
    return {own, *(sha256(canonical_json([own, *some])) for some in chosen)}
