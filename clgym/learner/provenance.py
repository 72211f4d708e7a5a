"""Files that a strategy reads besides its own: helper modules, tables, weights.

A plugin's hash is that of one file. An audit hook notes, with its SHA-256, every file that the
plugin's code imports from outside of the installed packages or opens; the record lists these files.
Files that clgym itself opens for it (images, states, pretrained weights) are not noted, since
records name them by other hashes. Files that a C library opens without Python are not seen.
"""

import functools
import hashlib
import importlib.metadata
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from clgym import registry
from clgym._checkout import PACKAGE, ROOT
from clgym.engines import INSIDE
from clgym.registry import PluginEntry, from_source
from clgym.registry.from_source import library_roots
from clgym.registry.surroundings import is_visible

__all__ = [
    "all_reads",
    "clean_surroundings",
    "files_of",
    "files_read",
    "is_library",
    "is_ours",
    "watch_files",
]

_PLUGINS = ("strategies", "scenarios")
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/")


@dataclass(frozen=True)
class _Read:
    """One file that was read."""

    path: str
    sha256: str
    readers: frozenset[str]
    """Files whose code was running: the plugin's, and helpers that it called."""
    importing: bool
    """Whether a plugin was being imported."""


_reads: list[_Read] = []
_seen: dict[str, tuple[Any, frozenset[str]]] = {}
_made: set[str] = set()
_own = threading.local()


def clean_surroundings() -> None:
    """Hide environment variables and the working folder from a worker's plugins.

    Both could change a strategy without a trace in the record. In a process that is shared with the
    gym (`--engine inline`) nothing is hidden.
    """
    if not _in_worker():
        return
    registry.import_from_source()
    for name in list(os.environ):
        if name != INSIDE and not is_visible(name):
            del os.environ[name]
    kept = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = str(Path.cwd())
    sys.path[:] = [p for p in sys.path if p and (p != here or p in kept)]


@functools.cache
def watch_files() -> None:
    """Note from now on the files that plugins read; the audit hook cannot be removed."""
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("open", "import") or getattr(_own, "at_work", False):
        return
    _own.at_work = True  # files opened below are opened by this module itself
    try:
        if event == "import":
            # the file of an extension module; None for other modules
            _note(arguments[1], os.O_RDONLY)
        else:
            _note(arguments[0], arguments[2])
    except (OSError, ValueError, TypeError):
        pass  # opening the file then fails in the same way, with its own error
    finally:
        _own.at_work = False


def _note(path: Any, flags: int) -> None:
    """Store a file's hash if a plugin's code opens it."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    path = cast("str | bytes | os.PathLike[str]", path)
    name = _absolute(os.fsdecode(path))
    readers, importing = _readers()
    if name.startswith(_SYSTEM) or not readers:
        return
    if flags & os.O_TRUNC or (flags & os.O_CREAT and flags & os.O_EXCL):
        _made.add(name)
        return
    if flags & os.O_ACCMODE == os.O_WRONLY:  # files opened for writing only are not read
        return
    if name in _made or _is_installed(name):
        return
    found = Path(name).stat()
    if not stat.S_ISREG(found.st_mode):
        return
    version = (found.st_mtime_ns, found.st_size, found.st_ino)
    if _seen.get(name) != (version, readers):
        _seen[name] = (version, readers)
        _reads.append(_Read(name, _sha256(name), readers, importing))


def _readers() -> tuple[frozenset[str], bool]:
    """Files of the plugin's code that is running, and whether a plugin is being imported.

    There are none if clgym itself opens a file.
    """
    files: list[str] = []
    # A private name of Python, used for speed, since this runs whenever a file is opened.
    frame = sys._getframe(3)  # pyright: ignore[reportPrivateUsage]
    importing = False
    while frame is not None:
        code = frame.f_code
        if not _is_import_machinery(code.co_filename) and not is_library(code.co_filename):
            files.append(code.co_filename)
            importing = importing or code is registry.load_module.__code__
        frame = frame.f_back
    if not files or is_ours(files[0]):
        return frozenset(), importing
    return frozenset(_absolute(name) for name in files if not is_ours(name)), importing


def _is_import_machinery(name: str) -> bool:
    """Whether code imports modules on behalf of the code that calls it."""
    return name.startswith("<frozen") or name == from_source.__file__


def _absolute(name: str | Path) -> str:
    """A path without ``..``, links kept."""
    return os.path.normpath(Path(name).absolute())


@functools.cache
def _code_roots() -> tuple[str, ...]:
    """Folders whose modules a study's plan hashes as one tree (`code.tree`)."""
    beside = [ROOT] if (ROOT / "pyproject.toml").is_file() else []
    folders = [PACKAGE, *(root / name for root in beside for name in _PLUGINS)]
    return tuple(f"{folder}{os.sep}" for folder in folders)


@functools.cache
def is_library(name: str) -> bool:
    """Whether code belongs to Python or to an installed package other than clgym."""
    name = _absolute(name) if ".." in name else name
    return name.startswith(library_roots()) and not name.startswith(f"{PACKAGE}{os.sep}")


@functools.cache
def is_ours(name: str) -> bool:
    """Whether code belongs to clgym, without its strategies and scenarios."""
    inside = name.startswith(f"{PACKAGE}{os.sep}")
    return inside and Path(name).relative_to(PACKAGE).parts[0] not in _PLUGINS


def _is_installed(name: str) -> bool:
    """Whether a file is identified by a package's version or by the hash of clgym's code.

    Bytecode counts only as clgym's own: what a plugin runs is compiled from its source.
    """
    if name.endswith(".pyc"):
        return is_library(name) or is_ours(name)
    return is_library(name) or (name.endswith(".py") and name.startswith(_code_roots()))


def _sha256(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(entry: PluginEntry, importing: bool = False) -> dict[str, str]:
    """Files that a plugin's code has read in this process, and all modules of its distribution.

    Args:
        entry: Entry of a strategy whose class was loaded.
        importing: Whether to return only files that were read during its import.

    Returns:
        SHA-256 by name; names are relative to the plugin's folder and hold no path above it.
    """
    path = _absolute(entry.path)
    own = [r for r in _reads if path in r.readers and (r.importing or not importing)]
    return _named(own, Path(path).parent) | _of_distribution(entry)


def files_read(entry: PluginEntry) -> dict[str, str]:
    """Files that all code read in a worker, which serves one strategy; otherwise `files_of`."""
    if not _in_worker():
        return files_of(entry)
    return _named(_reads, Path(_absolute(entry.path)).parent) | _of_distribution(entry)


def all_reads(plugins: Iterable[PluginEntry]) -> dict[str, str]:
    """Files that any plugin's code has read in this process, with whole distributions.

    Args:
        plugins: Entries of all strategies; those that were imported here count.

    Returns:
        SHA-256 by absolute path; an empty text if the content of a file changed in between.
    """
    found: dict[str, str] = {}
    for read in _reads:
        same = found.setdefault(read.path, read.sha256) == read.sha256
        found[read.path] = read.sha256 if same else ""
    loaded = [entry for entry in plugins if entry.module in sys.modules]
    return found | {str(path): digest for e in loaded for _, path, digest in _distributed(e)}


def _in_worker() -> bool:
    return os.environ.get(INSIDE, "").startswith("clgym.learner.")


def _named(reads: list[_Read], folder: Path) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for read in reads:
        path = Path(read.path)
        inside = path.is_relative_to(folder)
        name = path.relative_to(folder).as_posix() if inside else path.name
        if read.sha256 not in (digests := found.setdefault(name, [])):
            # in the order of reading, so that files keep the names that they got
            digests.append(read.sha256)
    return {
        name if not number else f"{name} ({number + 1})": digest
        for name in sorted(found)
        for number, digest in enumerate(found[name])
    }


def _of_distribution(entry: PluginEntry) -> dict[str, str]:
    return {f"{entry.origin}: {name}": digest for name, _, digest in _distributed(entry)}


def _distributed(entry: PluginEntry) -> Iterator[tuple[str, Path, str]]:
    """All modules of a plugin's distribution, if it has one: name, path, SHA-256."""
    if not is_library(str(entry.path)):
        return
    try:
        files = importlib.metadata.distribution(entry.origin).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix in (".py", ".so") and path.is_file():
            yield file.as_posix(), path, _sha256(str(path))
