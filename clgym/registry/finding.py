"""Find plugins: built in, installed, named by the user, or registered in this process."""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from clgym.errors import BadPlugin, DuplicateName, UnknownName, near
from clgym.registry.entry import Kind, PluginEntry
from clgym.registry.reading import kebab, kinds_in, read_entry

__all__ = [
    "entries",
    "find",
    "is_path",
    "named_file",
    "named_source",
    "plugin_packages",
    "register",
    "reserve",
    "strategy_files",
    "temporarily_registered",
    "with_registered",
]


def entries(kind: Kind, plugins: Sequence[Path] = ()) -> dict[str, PluginEntry]:
    """All plugins of a kind, sorted by name.

    Args:
        kind: Kind of the plugins.
        plugins: Files that the user named, besides the built-in and the installed ones.

    Raises:
        DuplicateName: Two plugins have one name.
    """
    owners: dict[str, PluginEntry] = {e.name: e for e in _lent if e.kind == kind}
    for entry in [*_built_in(kind), *_installed(kind), *_named(kind, plugins)]:
        for name in (entry.name, *entry.presets, *entry.aliases):
            other = owners.setdefault(name, entry)
            if other.path != entry.path:
                raise _taken(kind, name, other, entry)
            if (kind, name) in _reserved:
                raise _taken(kind, name, _reserved[kind, name], entry)
    return {e.name: e for e in sorted(owners.values(), key=lambda e: e.name)}


def _taken(kind: Kind, name: str, first: PluginEntry, second: PluginEntry) -> DuplicateName:
    return DuplicateName(
        expected=f"one plugin called {name!r} among the {kind}",
        found=f"two: {first.origin} ({first.file_name}) and {second.origin} ({second.file_name})",
        fix="Rename one of them",
    )


def find(kind: Kind, name: str, plugins: Sequence[Path] = ()) -> PluginEntry:
    """Find the plugin of a name: its own name, an alias, a preset, or ``file:variant``.

    Raises:
        UnknownName: No plugin has the name; the message shows similar names.
        BadPlugin: The file cannot be parsed.
    """
    known = entries(kind, plugins)
    base, _, argument = name.replace("_", "-").partition(":")
    argument = name.partition(":")[2]
    entry = known.get(base) or next(
        (e for e in known.values() if base in (*e.presets, *e.aliases)), None
    )
    if entry is None or (argument and not entry.variants):
        raise _unknown(kind, name, known.values())
    if entry.error:
        raise BadPlugin(
            expected=f"{entry.file_name} to be a Python file whose declared facts are literals",
            found=entry.error,
            fix="Correct the file",
        )
    if entry.variants:
        return _variant(entry, argument)
    return entry


def is_path(name: str) -> bool:
    """Whether a name is the path of a plugin: ``FILE.py``, ``FILE.py:CLASS``, ``FOLDER/``."""
    path = name.partition(":")[0]
    return path.endswith(".py") or ("/" in path and Path(path).is_dir())


def named_file(kind: Kind, name: str, plugins: Sequence[Path]) -> tuple[str, tuple[Path, ...]]:
    """Name of a plugin that may be given by its path, and all files needed to find it.

    Args:
        kind: Kind of the plugin.
        name: A name, or a path as `is_path` describes it.
        plugins: Other files that the user named.

    Raises:
        BadPlugin: There is no such file, or none of its classes is of that kind.
    """
    if not is_path(name):
        return name, tuple(plugins)
    given = Path(name)
    files = (*(p for p in plugins if p != given), given)
    for entry in entries(kind, files).values():
        if entry.given == str(given):
            return entry.name, files
    raise BadPlugin(
        expected=f"one of the {kind} in {name}",
        found="a plugin of another kind",
        fix="Check the path; `FILE.py:CLASS` chooses one class of a file",
    )


def named_source(
    source: str | None, plugins: Sequence[Path]
) -> tuple[str | None, tuple[Path, ...]]:
    """`named_file` for a source; None and names such as ``folder:PATH`` are returned unchanged."""
    path = Path((source or "").partition(":")[0])
    if source is None or not (path.suffix == ".py" or (path / "__init__.py").is_file()):
        return source, tuple(plugins)
    return named_file("sources", source, plugins)


def _unknown(kind: Kind, name: str, known: Iterable[PluginEntry]) -> UnknownName:
    names = {n for e in known for n in (e.name, *e.presets, *e.aliases)}
    names |= {f"{e.name}:{v}" for e in known for v in e.variants}
    return UnknownName(
        expected=f"the name of one of the {kind}",
        found=repr(name),
        fix=f"{near(name, names)}`clgym list {kind}` shows all; use --plugin for your own file",
    )


def _variant(entry: PluginEntry, argument: str) -> PluginEntry:
    if argument not in entry.variants:
        raise UnknownName(
            expected=f"{entry.name}:NAME with a known NAME",
            found=repr(f"{entry.name}:{argument}" if argument else entry.name),
            fix=f"{near(argument, entry.variants)}`clgym show {entry.name}` lists them",
        )
    return replace(entry, name=f"{entry.name}:{argument}", argument=argument)


def register(kind: Kind, cls: type) -> None:
    """Register a class in this process and for the workers that runs start.

    Raises:
        BadPlugin: The class was not defined in a file, so that no worker could import it.
    """
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if path is None or "." in cls.__qualname__:
        raise BadPlugin(
            expected=f"{cls.__name__} at the top level of a Python file, where workers find it",
            found=f"{cls.__qualname__} of {cls.__module__}, which they cannot import",
            fix="Write it to a file (in a notebook: %%writefile my_method.py) and name that file",
        )
    _registered[kind, Path(f"{Path(path).resolve()}:{cls.__name__}")] = cls


def reserve(kind: Kind, names: Iterable[str], path: Path, module: str) -> None:
    """Reserve the names of built-in items that are no plugins."""
    for name in names:
        _reserved[kind, name] = PluginEntry(name, kind, "built-in", path, module)


_registered: dict[tuple[Kind, Path], type] = {}
_reserved: dict[tuple[Kind, str], PluginEntry] = {}
_lent: list[PluginEntry] = []


@contextlib.contextmanager
def temporarily_registered(kind: Kind, name: str, cls: type) -> Iterator[None]:
    """Register a class, which need not be in a file, in this process for the time of the block."""
    path = Path(getattr(sys.modules.get(cls.__module__), "__file__", None) or __file__)
    entry = PluginEntry(name, kind, "this process", path, cls.__module__, cls=cls)
    _lent.append(entry)
    try:
        yield
    finally:
        _lent.remove(entry)


def with_registered(plugins: Iterable[Path]) -> list[str]:
    """Absolute names of plugins, by which a worker finds them from another folder."""
    return [str(p.resolve()) for p in dict.fromkeys([*plugins, *(path for _, path in _registered)])]


def strategy_files(plugins: Sequence[Path]) -> tuple[str, ...]:
    """Files that a learner needs to find its strategy, without those of scenarios and sources.

    The learner's sandbox does not let it read the latter.
    """
    given = [e.given for e in _named("strategies", plugins)]
    return tuple(dict.fromkeys(str(Path(path).resolve()) for path in given if path))


def _built_in(kind: Kind) -> Iterable[PluginEntry]:
    if kind == "sources":
        return
    package = importlib.import_module(f"clgym.{kind}")
    for folder in package.__path__:
        files = {path.stem: path for path in Path(folder).glob("*.py")}
        files |= {path.parent.name: path for path in Path(folder).glob("*/__init__.py")}
        for name in sorted(files):
            if name[0] != "_":
                yield read_entry(kind, files[name], f"clgym.{kind}.{name}", "built-in")


def _installed(kind: Kind) -> Iterable[PluginEntry]:
    for point in _entry_points(kind):
        origin = point.dist.name if point.dist else point.value
        if point.pattern.match(point.value) is None:
            reason = f"the entry point {point.value!r} names no module"
            yield PluginEntry(point.name, kind, origin, Path(origin), origin, error=reason)
            continue
        try:
            spec = importlib.util.find_spec(point.module)
        except Exception as error:  # finding a module imports its parent package
            spec, reason = None, f"{type(error).__name__}: {error}"
        else:
            reason = f"no module {point.module}"
        if spec is None or spec.origin is None:
            path = Path(point.module)
            yield PluginEntry(point.name, kind, origin, path, point.module, error=reason)
        else:
            entry = read_entry(kind, Path(spec.origin), point.module, origin)
            yield replace(entry, name=point.name.replace("_", "-"), attribute=point.attr or None)


_all_entry_points = functools.cache(importlib.metadata.entry_points)
"""Entry points of installed distributions; cached, since reading them takes a tenth of a look-up.
"""


@functools.cache
def plugin_packages() -> frozenset[str]:
    """Names of the top-level modules of all distributions that offer plugins."""
    kinds: tuple[Kind, ...] = ("strategies", "scenarios", "sources")
    points = [point for kind in kinds for point in _entry_points(kind)]
    files = [file for point in points if point.dist for file in point.dist.files or ()]
    named = {point.value.partition(":")[0].partition(".")[0].strip() for point in points}
    return frozenset(named | {Path(f.parts[0]).stem for f in files if f.suffix == ".py"})


def _entry_points(kind: Kind) -> importlib.metadata.EntryPoints:
    return _all_entry_points().select(group=f"clgym.{kind}")


def _named(kind: Kind, plugins: Sequence[Path]) -> Iterable[PluginEntry]:
    mine = {path: cls for (of, path), cls in _registered.items() if of == kind}
    for given in dict.fromkeys([*plugins, *mine]):
        path, attribute = _split(given)
        entry = read_entry(kind, path, _module_name(path), path.name)
        entry = replace(entry, origin=entry.file_name)
        entry = replace(entry, given=str(given), cls=mine.get(given))
        if attribute is not None:
            entry = replace(entry, name=kebab(attribute), attribute=attribute)
        if entry.error or given in mine or kind in kinds_in(path, attribute):
            yield entry


def _split(given: Path) -> tuple[Path, str | None]:
    """File of a plugin that the user named, and the class named after the colon, if any.

    Raises:
        BadPlugin: There is no such file.
    """
    text, colon, attribute = str(given).rpartition(":")
    named = bool(colon) and not given.exists()
    path = Path(text) if named else given
    if path.is_dir():
        path /= "__init__.py"
    if not path.is_file():
        raise BadPlugin(
            expected="a Python file that is a plugin, or a folder with a file __init__.py",
            found=f"no file {path}",
            fix="Check the path",
        )
    return path.resolve(), attribute if named else None


def _module_name(path: Path) -> str:
    """Import name for a file that the user named; it depends on the folder, too."""
    import hashlib  # imported here, since it loads OpenSSL, which `clgym list` does not need

    name = path.parent.name if path.name == "__init__.py" else path.stem
    return f"clgym_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{name}"
