"""Which file a record's strategy was, told by its hash. No plugin is imported."""

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
"""Bytes of a file that could be a strategy's."""


def python_files(folder: Path) -> list[Path]:
    """Python files below a folder of a contributor's: small ones, and nothing that is a link."""
    if folder.is_symlink():
        return []
    walked = ((Path(place), names) for place, _, names in os.walk(folder, followlinks=False))
    found = [place / name for place, names in walked for name in names if name.endswith(".py")]
    return sorted(file for file in found if _ordinary(file))


def _ordinary(file: Path) -> bool:
    facts = file.lstat()
    return stat.S_ISREG(facts.st_mode) and facts.st_size <= _LARGEST


def file_that_ran(facts: StrategyFacts, sent: Sequence[Path]) -> Path | None:
    """The file with a record's hash: the one known here, else one of those that were sent.

    Args:
        facts: Of the record.
        sent: Files that came with it.
    """
    own = built_in(facts.name)
    files = [*([] if own is None else [own.path]), *sent]
    return next((file for file in files if facts.source_hash in _hashes(file, facts)), None)


def unknown_code(facts: StrategyFacts, sent: Sequence[Path]) -> str | None:
    """In words, why nobody can repeat a record's run with the files at hand; None if one can."""
    if file_that_ran(facts, sent) is not None:
        return None
    if built_in(facts.name) is not None:
        return "run by another version of the strategy's file"
    return "the strategy's file is not here: nobody can run it again"


@functools.cache
def built_in(name: str) -> registry.PluginEntry | None:
    """The strategy of a name that is known here; a board asks for the same few again and again."""
    try:
        return registry.find("strategies", name)
    except ClgymError:
        return None


def _hashes(file: Path, facts: StrategyFacts) -> set[str]:
    """What a record may name this file by: its hash, or that of a list with the wrapped ones'.

    Which options name a wrapped strategy only the class itself knows, and it is not imported here.
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
