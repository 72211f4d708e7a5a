"""What a worker may open, and how it shuts itself in before it imports a plugin."""

import importlib.util
import os
import resource
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clgym.engines import landlock
from clgym.engines.system import gain_no_privileges
from clgym.errors import BadConfig

__all__ = ["Confinement", "beside", "confine"]

_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/sbin", "/etc", "/proc", "/sys", "/opt/rocm")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "shm", "dri", "kfd")
_KNOWN_DATA = ("sklearn/datasets/data", "skimage/data")
"""Folders of installed packages that hold data sets."""
_MOST_FILES, _MOST_PROCESSES = 4096, 32768


@dataclass(frozen=True)
class Confinement:
    """What a worker may open besides Python, its packages and devices; everything else is shut."""

    required: bool
    """Whether to refuse to work where the system cannot enforce it."""
    code: tuple[Path, ...] = ()
    """Python files; they and those beside them may be read."""
    read: tuple[Path, ...] = ()
    """Files and folders that may be read; those that are missing are passed over."""
    write: tuple[Path, ...] = ()
    """Folders in which files may be read, made and changed."""
    closed: tuple[Path, ...] = ()
    """Files and folders that stay shut where they lie among Python's packages or beside code."""
    scratch: Path = Path()
    """Folder for temporary files; the worker's own, and gone when it ends."""

    def with_scratch(self, folder: Path) -> "Confinement":
        """The same with a folder for temporary files."""
        return replace(self, scratch=folder)

    def to_tree(self) -> dict[str, Any]:
        """As plain data."""
        lists = {k: [str(p) for p in v] for k, v in vars(self).items() if isinstance(v, tuple)}
        return {**lists, "required": self.required, "scratch": str(self.scratch)}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> "Confinement":
        """From plain data."""
        lists = {k: tuple(map(Path, v)) for k, v in tree.items() if isinstance(v, list)}
        return cls(required=tree["required"], scratch=Path(tree["scratch"]), **lists)


def confine(confinement: Confinement) -> str:
    """Shut this process in, for good; what is enforced from here on, in words.

    Raises:
        BadConfig: a sandbox is required, and this system has none.
    """
    _limit()
    version = landlock.abi()
    if version < 1:
        if confinement.required:
            raise BadConfig(
                expected="Linux 5.13 or later with Landlock, for --sandbox landlock",
                found="a system without it",
                fix="Give --sandbox auto or none",
            )
        return "none"
    gain_no_privileges()
    closed = (*map(_real, confinement.closed), *_known_data())
    rules = landlock.Rules(
        read=(*_python(closed), *_code(confinement.code, closed), *confinement.read),
        names=tuple(_listed(confinement.code)),
        write=(*confinement.write, Path("/dev/shm")),
        everything=(confinement.scratch,),
        devices=tuple(_devices()),
        change=(Path("/proc/self"),),
    )
    return f"landlock {version}: {', '.join(landlock.enforce(rules))}"


def _limit() -> None:
    """Limits on open files and processes; no core file, which would hold the images."""
    for what, most in (
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_NPROC, _MOST_PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def beside(file: Path, closed: Sequence[Path] = ()) -> Iterator[Path]:
    """A Python file's package; of a file outside packages: it and the Python code beside it."""
    file = _real(file)
    folder = file.parent
    if (folder / "__init__.py").is_file():
        while (folder.parent / "__init__.py").is_file():
            folder = folder.parent
        yield from _cut(folder, closed)
        return
    yield file
    yield from _modules(folder, closed)


def _modules(folder: Path, closed: Sequence[Path]) -> Iterator[Path]:
    """What can be imported from a folder, without the rest of it."""
    for child in _inside(folder):
        package = (child / "__init__.py").is_file()
        if package or child.suffix in (".py", ".so", ".pyd") or child.name == "__pycache__":
            yield from _cut(child, closed)


def _python(closed: Sequence[Path]) -> Iterator[Path]:
    """The system, Python, its packages and what else it imports from."""
    roots = {*_SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix}
    roots |= {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    whole = list(dict.fromkeys(_real(Path(root)) for root in sorted(roots)))
    for root in whole:
        if not any(other in root.parents for other in whole):
            yield from _cut(root, closed)
    for folder in map(_real, _imported_from()):
        if not any(root == folder or root in folder.parents for root in whole):
            yield from _modules(folder, closed)
    for name in ("clgym", "clgym.strategies", "clgym.scenarios"):
        spec = importlib.util.find_spec(name)
        for place in (spec and spec.submodule_search_locations) or ():
            yield from _cut(_real(Path(place)), closed)


def _code(files: Iterable[Path], closed: Sequence[Path]) -> Iterator[Path]:
    for file in files:
        yield from beside(file, closed)


def _listed(code: Iterable[Path]) -> Iterator[Path]:
    """Folders that Python looks through when it imports."""
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
    yield from (Path("/dev") / name for name in _DEVICES if name != "shm")
    yield from Path("/dev").glob("nvidia*")


def _cut(root: Path, closed: Sequence[Path]) -> Iterator[Path]:
    """A file or folder without what is closed: itself, or what it holds, one by one."""
    if any(root == shut or shut in root.parents for shut in closed):
        return
    if not any(root in shut.parents for shut in closed):
        yield root
        return
    for child in _inside(root):
        if not child.is_symlink():
            yield from _cut(child, closed)


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
