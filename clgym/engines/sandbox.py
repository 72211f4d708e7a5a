"""The sandbox of a worker, which it enters before it imports a plugin."""

import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from clgym._checkout import MARK
from clgym.engines import bubblewrap, landlock, seccomp
from clgym.engines.channel import Message
from clgym.engines.rules import Rules
from clgym.engines.system import gain_no_privileges
from clgym.errors import Incompatible

__all__ = ["Confinement", "Sandbox", "confine"]

Sandbox = Literal["auto", "landlock", "bubblewrap", "none"]
"""Sandbox of a worker; ``auto`` is the first of the others that the system has."""

_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/sbin", "/etc", "/sys", "/opt/rocm")
_PROCESSES = (
    *("self", "cpuinfo", "meminfo", "stat", "version", "filesystems", "loadavg", "uptime"),
    *("devices", "driver", "modules", "sys"),
)
"""Files of /proc that may be read: those of this process, and those of the whole system."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "dri", "kfd")
_KNOWN_DATA = ("sklearn/datasets/data", "skimage/data")
"""Folders of installed packages that contain data sets."""
_MOST_FILES, _MOST_PROCESSES = 4096, 32768


@dataclass(frozen=True)
class Confinement:
    """Rights of a worker besides Python, its packages and devices."""

    sandbox: Sandbox = "auto"
    """Sandbox that enforces the rights; a worker does not start if the system lacks it."""
    code: tuple[Path, ...] = ()
    """Python files, which may be read together with the files beside them."""
    read: tuple[Path, ...] = ()
    """Files and folders that may be read; missing ones are skipped."""
    write: tuple[Path, ...] = ()
    """Folders in which files may be read, created and changed."""
    closed: tuple[Path, ...] = ()
    """Files and folders that stay closed even if they are among Python's packages or beside code.
    """
    scratch: Path = Path()
    """Folder for temporary files of the worker, deleted when it ends."""

    def with_scratch(self, folder: Path) -> "Confinement":
        """Return the same confinement with a folder for temporary files."""
        return replace(self, scratch=folder)

    def to_tree(self) -> Message:
        """Return plain data."""
        lists = {k: [str(p) for p in v] for k, v in vars(self).items() if isinstance(v, tuple)}
        return {**lists, "sandbox": self.sandbox, "scratch": str(self.scratch)}

    @classmethod
    def from_tree(cls, tree: Message) -> "Confinement":
        """Create a confinement from plain data."""
        lists = {k: tuple(Path(str(p)) for p in v) for k, v in tree.items() if isinstance(v, list)}
        return cls(
            sandbox=cast(Sandbox, tree["sandbox"]),
            scratch=Path(str(tree["scratch"])),
            **lists,
        )


def confine(confinement: Confinement, restart: Sequence[str]) -> str:
    """Enter the sandbox permanently; return a description of what is enforced.

    Args:
        confinement: Rights that the process keeps.
        restart: Command that replaces this process if the sandbox can only be entered by starting a
            program; the description of what is enforced is added as its last argument.

    Raises:
        Incompatible: The system lacks the requested sandbox.
    """
    _limit()
    tool = _choose(confinement.sandbox)
    if tool == "none":
        return tool
    cut = _Cut([*map(_real, confinement.closed), *_known_data()])
    code = (path for file in confinement.code for path in cut.beside(file))
    rules = Rules(
        read=(*cut.python(), *code, *confinement.read, *(Path("/proc") / n for n in _PROCESSES)),
        names=tuple(_listed(confinement.code)),
        write=(*confinement.write, confinement.scratch),
        devices=tuple(_devices()),
        change=(Path("/proc/self"),),
    )
    if tool == "bubblewrap":
        bubblewrap.enter(rules, [*_SYSTEM, sys.executable, sys.prefix, sys.base_prefix], restart)
    gain_no_privileges()
    enforced = [*landlock.enforce(rules), *seccomp.refuse_calls()]
    return f"landlock {landlock.abi()}: {', '.join(enforced)}"


def _choose(asked: Sandbox) -> Sandbox:
    """The sandbox to enter.

    Raises:
        Incompatible: The system lacks the requested sandbox.
    """
    if asked in ("auto", "landlock") and landlock.abi() >= 1:
        return "landlock"
    if asked in ("auto", "bubblewrap") and bubblewrap.works():
        return "bubblewrap"
    if asked == "landlock":
        raise Incompatible(
            expected="Linux 5.13 or later with Landlock, for --sandbox landlock",
            found="a system without Landlock",
            fix="Give --sandbox auto or none",
        )
    if asked == "bubblewrap":
        raise Incompatible(
            expected="the program bwrap and the right to make namespaces, for --sandbox bubblewrap",
            found="a system on which it does not work",
            fix="Install bubblewrap, or give --sandbox auto or none",
        )
    return "none"


def _limit() -> None:
    """Limit open files and processes, and forbid core files, which would contain images."""
    import resource  # POSIX only, as workers are; the gym imports this module everywhere

    for what, most in (
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_NPROC, _MOST_PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


class _Cut:
    """Files and folders without the closed ones inside them."""

    def __init__(self, closed: Iterable[Path]) -> None:
        self._closed = {str(path) for path in closed}
        self._above = {str(folder) for path in closed for folder in path.parents}

    def whole(self, root: Path) -> Iterator[Path]:
        """A file or folder; if something inside it is closed, its items one by one."""
        if not self._closed.isdisjoint(map(str, root.parents)):
            return
        yield from map(Path, self._open(str(root)))

    def _open(self, root: str) -> Iterator[str]:
        if root in self._closed:
            return
        if root not in self._above:
            yield root
            return
        for child in _inside(root):
            if not child.is_symlink():
                yield from self._open(child.path)

    def modules(self, folder: Path) -> Iterator[Path]:
        """Files and folders that can be imported from a folder."""
        for child in _inside(str(folder)):
            package = Path(child.path, "__init__.py").is_file()
            if package or child.name.endswith((".py", ".so")) or child.name == "__pycache__":
                yield from self.whole(_real(Path(child.path)))

    def beside(self, file: Path) -> Iterator[Path]:
        """A Python file's package; for a file outside packages, it and the files beside it.

        The record contains the hashes of those files that a strategy reads.
        """
        folder = _real(file).parent
        if not (folder / "__init__.py").is_file():
            yield from (_real(file), *self.modules(folder))
            for child in _inside(str(folder)):
                if child.is_file(follow_symlinks=False):
                    yield from self.whole(_real(Path(child.path)))
            return
        while (folder.parent / "__init__.py").is_file():
            folder = folder.parent
        yield from self.whole(folder)

    def python(self) -> Iterator[Path]:
        """Paths of the system, of Python, of its packages and of other import folders."""
        roots = {*_SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix}
        names = ("stdlib", "platstdlib", "purelib", "platlib")
        roots |= {sysconfig.get_path(name) for name in names}
        whole = {_real(Path(root)) for root in roots}
        outer = [root for root in whole if whole.isdisjoint(root.parents)]
        for root in outer:
            yield from self.whole(root)
        for folder in map(_real, _imported_from()):
            if whole.isdisjoint((folder, *folder.parents)):
                yield from self.modules(folder)
        for name in ("clgym", "clgym.strategies", "clgym.scenarios"):
            spec = importlib.util.find_spec(name)
            for place in (spec and spec.submodule_search_locations) or ():
                yield from self.whole(_real(Path(place)))
        if MARK.is_file():
            yield MARK


def _listed(code: Iterable[Path]) -> Iterator[Path]:
    """Folders that Python searches for imports."""
    yield from map(_real, _imported_from())
    yield from (_real(file).parent for file in code)


def _imported_from() -> list[Path]:
    return [Path(entry or ".") for entry in sys.path if Path(entry or ".").is_dir()]


def _known_data() -> Iterator[Path]:
    places = {*site.getsitepackages(), sysconfig.get_path("purelib"), *sys.path}
    for place in places:
        for name in _KNOWN_DATA:
            if (folder := Path(place) / name).is_dir():
                yield _real(folder)


def _devices() -> Iterator[Path]:
    yield from (Path("/dev") / name for name in _DEVICES)
    yield from Path("/dev").glob("nvidia*")


def _inside(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
