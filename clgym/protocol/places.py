"""Files and folders of a study: which of them its ledger names, and which are no plain ones."""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from clgym.errors import Tampered
from clgym.protocol.ledger import NAME, LedgerEntry, read_ledger
from clgym.protocol.outcome import EVALUATION
from clgym.protocol.study import CERTIFICATE
from clgym.results.layout import PREDICTIONS, RECORD
from clgym.text import printable

__all__ = ["links_and_devices", "study_of"]

_DEPTH = 5
"""Number of folders from a study down to its deepest record."""
_SEED = r"seed-\d+(-experience-\d+)?"


def study_of(path: Path) -> Path | None:
    """The study to which a file or folder belongs, since its ledger names it; else None.

    Args:
        path: A study, or a file or folder inside.
    """
    folder = path.parent if path.is_file() else path
    place = folder.resolve() / path.name if path.is_file() else folder.resolve()
    for study in (folder, *folder.resolve().parents[:_DEPTH]):
        if (study / NAME).is_file() and _is_named(study, place):
            return study
    return None


def _is_named(study: Path, path: Path) -> bool:
    inside = PurePosixPath(path.relative_to(study.resolve()).as_posix())
    if str(inside) in (".", NAME, CERTIFICATE):
        return True
    try:
        entries = read_ledger(study / NAME)
    except Tampered:
        return True  # the audit of the study names what is wrong with its ledger
    place = inside.parent if inside.name in (RECORD, PREDICTIONS, EVALUATION) else inside
    named = _named(entries)
    return any(place in (name, *name.parents) for name in named) or _is_seed(place, named)


def _named(entries: Sequence[LedgerEntry]) -> list[PurePosixPath]:
    """Folders that the ledger names: those of runs and trials, and of evaluations."""
    keys = [str(e.body.get("key")) for e in entries if e.kind in ("trial", "run")]
    numbers = [e.body.get("evaluation") for e in entries if e.kind == "opened"]
    return [PurePosixPath(place) for place in (*keys, *(f"evaluations/{n}" for n in numbers))]


def _is_seed(place: PurePosixPath, named: Sequence[PurePosixPath]) -> bool:
    """Whether a folder holds a run of an evaluation that the ledger names."""
    evaluation = place.parent
    inside = evaluation.parent.name == "evaluations" and evaluation in named
    return inside and re.fullmatch(_SEED, place.name) is not None


def links_and_devices(study: Path) -> Iterator[str]:
    """Yield a problem for everything that an audit reads and that is no plain file or folder.

    A link could lead to files that are not published with the study; a pipe or a device has no
    end.

    Args:
        study: Folder of the study.
    """
    for name in (NAME, CERTIFICATE):
        if os.path.lexists(study / name):
            yield from _odd(study, study / name, "file")
    for name in ("runs", "evaluations"):
        if os.path.lexists(study / name):
            yield from _odd(study, study / name, "folder")
        for place, folders, files in os.walk(study / name):
            for inner in sorted(folders):
                yield from _odd(study, Path(place, inner), "folder")
            for inner in sorted(files):
                yield from _odd(study, Path(place, inner), "file")


def _odd(study: Path, path: Path, wanted: str) -> Iterator[str]:
    kind = _kind(path)
    if kind != wanted:
        where = printable(path.relative_to(study).as_posix())
        yield f"{where} is a {kind}, where only plain files and folders are read"


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "pipe, socket or device"
