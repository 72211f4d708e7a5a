"""Import plugins from their source, whatever bytecode lies beside it.

A record identifies a plugin by the hash of its source. Python prefers bytecode in `__pycache__`,
which may be marked as never to be compared with the source, so that other code would run under the
same hash. Modules of installed libraries, and clgym's own, are imported as usual: a record states
their versions.
"""

import functools
import importlib.machinery as machinery
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

from clgym._checkout import PACKAGE
from clgym.registry.finding import plugin_packages

__all__ = ["SourceOnly", "import_from_source", "library_roots"]

_PLUGINS = ("strategies", "scenarios")


class SourceOnly(machinery.SourceFileLoader):
    """Compile a module's source; bytecode is neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        """Code of the module."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder:
    """Finder that asks the others, and exchanges the loader of what a hash must cover."""

    def __init__(self) -> None:
        """Ask nobody yet."""
        self._due = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        due: set[str] = vars(self._due).setdefault("names", set())
        if name in due:  # asked by a finder that asks all the others, too
            return None
        due.add(name)
        try:
            others = (finder for finder in sys.meta_path if finder is not self)
            found = (finder.find_spec(name, path, target) for finder in others)
            spec = next((spec for spec in found if spec is not None), None)
        finally:
            due.discard(name)
        if spec is None or spec.origin is None or not _is_hashed(name, spec.origin):
            return spec
        if isinstance(spec.loader, machinery.SourcelessFileLoader):
            raise ImportError(f"{spec.origin} is bytecode without its source", name=name)
        if type(spec.loader) is machinery.SourceFileLoader:
            spec.loader, spec.cached = SourceOnly(name, spec.origin), None
        return spec


@functools.cache
def import_from_source() -> None:
    """From now on import in this process what is no library's from its source."""
    sys.meta_path.insert(0, _Finder())


def _is_hashed(name: str, origin: str) -> bool:
    """Whether a module is identified by the hash of its source instead of a version."""
    if name.partition(".")[0] in plugin_packages():
        return True
    place = str(Path(origin).absolute())
    if place.startswith(f"{PACKAGE}{os.sep}"):
        return Path(place).relative_to(PACKAGE).parts[0] in _PLUGINS
    return not place.startswith(library_roots())


@functools.cache
def library_roots() -> tuple[str, ...]:
    """Folders of Python's own modules and of installed packages, each with a final separator."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    roots = {sysconfig.get_path(name) for name in names}
    roots |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(str(Path(root).absolute()) + os.sep for root in roots)
