"""Let plugins run from their source, whatever bytecode lies beside it.

A record identifies a plugin by the hash of its source. Python prefers bytecode in `__pycache__`,
which may be marked as never to be compared with the source, so that other code would run under the
same hash. Modules of installed libraries, and clgym's own, are imported as usual: a record states
their versions.
"""

import functools
import importlib.machinery as machinery
import importlib.util
import os
import site
import sysconfig
from pathlib import Path
from types import CodeType

from clgym._checkout import PACKAGE
from clgym.registry.finding import plugin_packages

__all__ = ["import_from_source", "library_roots"]

_PLUGINS = ("strategies", "scenarios")
_DEPENDENCIES = ("numpy", "torch")
"""Packages that are never a plugin's own: the folder that holds one holds installed packages."""
_usual = machinery.SourceFileLoader.get_code


def import_from_source() -> None:
    """From now on compile in this process what is no library's, however it is imported.

    The loaders themselves are changed, since a plugin may load a helper by its path, which asks no
    finder.
    """
    machinery.SourceFileLoader.get_code = _compiled
    machinery.SourcelessFileLoader.get_code = _refused


def _compiled(self: machinery.SourceFileLoader, fullname: str) -> CodeType | None:
    """Code of a module; of what a hash must cover from its source, and no bytecode is written."""
    path = self.get_filename(fullname)
    if not _is_hashed(path):
        return _usual(self, fullname)
    return self.source_to_code(self.get_data(path), path)


_bytecode = machinery.SourcelessFileLoader.get_code


def _refused(self: machinery.SourcelessFileLoader, fullname: str) -> CodeType | None:
    """Code of a module without a source, which only a library may be.

    Raises:
        ImportError: A hash must cover the module.
    """
    path = self.get_filename(fullname)
    if _is_hashed(path):
        raise ImportError(f"{path} is bytecode without its source", name=fullname)
    return _bytecode(self, fullname)


def _is_hashed(path: str) -> bool:
    """Whether a module is identified by the hash of its source instead of a version."""
    place = os.path.normpath(Path(path).absolute())
    if place.startswith(f"{PACKAGE}{os.sep}"):
        return Path(place).relative_to(PACKAGE).parts[0] in _PLUGINS
    for root in library_roots():
        if place.startswith(root):
            name = place[len(root) :].partition(os.sep)[0]
            return name.removesuffix(".py") in plugin_packages()
    return True


@functools.cache
def library_roots() -> tuple[str, ...]:
    """Folders of Python's own modules and of installed packages, each with a final separator.

    An inner one comes before an outer one that holds it.
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    roots = {sysconfig.get_path(name) for name in names}
    roots |= {*site.getsitepackages(), site.getusersitepackages()}
    for name in _DEPENDENCIES:  # in an environment that borrows packages of another one
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            roots.add(str(Path(spec.origin).parent.parent))
    found = {str(Path(root).absolute()) + os.sep for root in roots}
    return tuple(sorted(found, key=len, reverse=True))
