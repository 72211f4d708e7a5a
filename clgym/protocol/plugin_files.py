"""Paths of a study's plugins, written to its ledger by one phase and read by the next.

A ledger contains no absolute paths: a file is named by its path relative to the study's folder, or
by its name if the two have only the root in common. Its hash shows whether it is the right file.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clgym import registry
from clgym.errors import Tampered, UnknownName
from clgym.files import sha256
from clgym.protocol.ledger import Ledger
from clgym.protocol.plan import StudyPlan
from clgym.registry import with_registered
from clgym.registry.reading import kebab

__all__ = ["other_plugins", "plugins_of", "recorded_plugins"]


def recorded_plugins(folder: Path, plugins: Sequence[Path]) -> dict[str, object]:
    """Ledger entry about a session's plugins; empty if there are none.

    Args:
        folder: The study's.
        plugins: Files that the user named; those registered in this process are added.
    """
    found = [_recorded(folder.resolve(), given) for given in with_registered(plugins)]
    return {"plugins": found} if found else {}


def _recorded(folder: Path, given: str) -> dict[str, str]:
    file, attribute = _split(given)
    alone = len(Path(os.path.commonpath([folder, file])).parts) < 2
    path = _name(file) if alone else Path(os.path.relpath(file, folder)).as_posix()
    return {"path": path, "class": attribute, "sha256": sha256(file.read_bytes())}


def _name(file: Path) -> str:
    """A file's name; for an ``__init__.py`` with the folder's name."""
    return "/".join(file.parts[-2:]) if file.name == "__init__.py" else file.name


def _split(given: str) -> tuple[Path, str]:
    """A file (for a folder its ``__init__.py``), and the class named after it, if any."""
    text, _, attribute = (given, "", "") if Path(given).exists() else given.rpartition(":")
    path = Path(text)
    return (path / "__init__.py" if path.is_dir() else path), attribute


def plugins_of(folder: Path, ledger: Ledger) -> tuple[Path, ...]:
    """The plugins of the study's last tuning session.

    Args:
        folder: The study's.
        ledger: The study's.

    Raises:
        Tampered: A file is not at its place, or has changed.
    """
    sessions = ledger.of("session")
    listed: list[dict[str, str]] = sessions[-1].body.get("plugins", []) if sessions else []
    return tuple(_found(folder, facts) for facts in listed)


def other_plugins(plan: StudyPlan, sessions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a problem if a session names another file of the strategy than the plan's.

    Args:
        plan: Plan of the study.
        sessions: Bodies of the ledger's lines of sessions.
    """
    try:
        registry.find("strategies", plan.strategy)
    except UnknownName:
        pass
    else:
        return  # a strategy of an installed package: a plugin of that name is of another kind
    name = plan.strategy.partition(":")[0]
    for number, session in enumerate(sessions, 1):
        hashes = [p["sha256"] for p in session.get("plugins", []) if _plugin_name(p) == name]
        if hashes and plan.source_hash not in hashes:
            yield f"session {number} was carried out with another file of {name} than the plan's"


def _plugin_name(facts: Mapping[str, str]) -> str:
    """Name of the plugin in a file that the ledger lists."""
    if facts["class"]:
        return kebab(facts["class"])
    path = Path(facts["path"])
    return (path.parent.name if path.name == "__init__.py" else path.stem).replace("_", "-")


def _found(folder: Path, facts: dict[str, str]) -> Path:
    """The first place at which the file exists, with the named class."""
    name, folder = _name(Path(facts["path"])), folder.resolve()
    places = [folder / facts["path"], Path(name), folder / name]
    files = [Path(os.path.normpath(place.absolute())) for place in places if place.is_file()]
    for file in files:
        if sha256(file.read_bytes()) == facts["sha256"]:
            return Path(f"{file}:{facts['class']}") if facts["class"] else file
    raise Tampered(
        expected=f"{name} as it was in tuning (SHA-256 {facts['sha256'][:16]})",
        found="different content" if files else f"no such file at {places[0]}",
        fix="Restore it, or name the right file with --plugin",
    )
