"""Names to plugins. Listing reads files and never imports them; `load_class` imports one.

A plugin is a file in ``strategies/`` or ``scenarios/``, another distribution's entry point, or a
file named by the user. The file's name is the plugin's name, the first line of its docstring its
description. A file with several classes is named with the one that is meant, ``FILE:CLASS``; the
plugin's name is then the class's (``MyMethod``: ``my-method``).

Sources that are built in are data (`clgym.data.cards`), not plugins; `entries` gives the others.
"""

import ast
import contextlib
import copy
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from clgym.data.cards import CARDS
from clgym.errors import BadPlugin, DuplicateName, UnknownName, near

__all__ = [
    "Entry",
    "Kind",
    "entries",
    "fault",
    "find",
    "lent",
    "load_class",
    "load_module",
    "register",
    "with_registered",
]

Kind = Literal["strategies", "scenarios", "sources"]


@dataclass(frozen=True)
class Entry:
    """A plugin as its file describes it, without running it."""

    name: str
    kind: Kind
    origin: str
    """Where it comes from: built-in, a distribution's name, or a file's name."""
    path: Path
    module: str
    """Import name; made up for a file that the user named."""
    summary: str = ""
    doc: str = ""
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    error: str | None = None
    attribute: str | None = None
    """The class to take, where an entry point or the user names it."""
    given: str = ""
    """As the user named the file."""
    cls: type | None = None
    """The class itself, where it was registered in this process."""
    argument: str | None = None
    """What stood after the colon: ``EWC`` in ``avalanche:EWC``."""

    @property
    def source_hash(self) -> str:
        """SHA-256 of the plugin's file, hex."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def entries(kind: Kind, plugins: Sequence[Path] = ()) -> dict[str, Entry]:
    """Every plugin of a kind by name, sorted.

    Args:
        kind: Which folder.
        plugins: Files that the user named, besides the built-in and the installed ones.

    Raises:
        DuplicateName: two plugins claim one name.
    """
    owners: dict[str, Entry] = {e.name: e for e in _lent if e.kind == kind}
    for entry in [*_built_in(kind), *_installed(kind), *_named(kind, plugins)]:
        for name in (entry.name, *entry.presets, *entry.aliases):
            other = owners.setdefault(name, entry)
            if other.path != entry.path:
                raise _taken(kind, name, other, entry)
            if kind == "sources" and name in CARDS:
                card = Entry(name, kind, "built-in", Path("cards.py"), "clgym.data.cards")
                raise _taken(kind, name, card, entry)
    return {e.name: e for e in sorted(owners.values(), key=lambda e: e.name)}


def _taken(kind: Kind, name: str, first: Entry, second: Entry) -> DuplicateName:
    return DuplicateName(
        expected=f"one plugin called {name!r} among the {kind}",
        found=f"two: {first.origin} ({first.path.name}) and {second.origin} ({second.path.name})",
        fix="Rename one of them",
    )


def find(kind: Kind, name: str, plugins: Sequence[Path] = ()) -> Entry:
    """The plugin that goes by ``name``: its own, an alias, a preset, or ``file:variant``.

    Raises:
        UnknownName: nobody goes by it; near matches are shown.
        BadPlugin: the file cannot be parsed.
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
            expected=f"{entry.path.name} to be a Python file",
            found=entry.error,
            fix="Mend the file",
        )
    if entry.variants:
        return _variant(entry, argument)
    return entry


def _unknown(kind: Kind, name: str, known: Iterable[Entry]) -> UnknownName:
    names = {n for e in known for n in (e.name, *e.presets, *e.aliases)}
    names |= {f"{e.name}:{v}" for e in known for v in e.variants}
    return UnknownName(
        expected=f"a name among the {kind}",
        found=repr(name),
        fix=f"{near(name, names)}`clgym list {kind}` shows all; a file of your own wants --plugin",
    )


def _variant(entry: Entry, argument: str) -> Entry:
    if argument not in entry.variants:
        raise UnknownName(
            expected=f"{entry.name}:NAME with a NAME that is known",
            found=repr(f"{entry.name}:{argument}" if argument else entry.name),
            fix=f"{near(argument, entry.variants)}`clgym show {entry.name}` lists them",
        )
    return replace(entry, name=f"{entry.name}:{argument}", argument=argument)


def load_module(entry: Entry) -> ModuleType:
    """Import the plugin's module.

    Raises:
        BadPlugin: it raised while it was imported.
    """
    if entry.module in sys.modules:
        return sys.modules[entry.module]
    try:
        if not entry.module.startswith("clgym_plugin_"):
            return importlib.import_module(entry.module)
        spec = importlib.util.spec_from_file_location(entry.module, entry.path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{entry.path.name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[entry.module] = module
        spec.loader.exec_module(module)
        return module
    except Exception as error:
        sys.modules.pop(entry.module, None)
        raise BadPlugin(
            expected=f"{entry.name!r} to be importable",
            found=f"{type(error).__name__}: {error}",
            fix=f"Mend {entry.path.name}",
        ) from error


def fault(entry: Entry, base: type) -> str | None:
    """Why a plugin cannot be used, in a line; None if it can. Imports it."""
    if entry.error:
        return entry.error
    try:
        load_class(entry, base)
    except BadPlugin as error:
        return error.found
    return None


def load_class(entry: Entry, base: type) -> type:
    """Import the plugin and return its class.

    Args:
        entry: From `find`.
        base: What the class must derive from; the caller says it, the registry knows no rooms.

    Raises:
        BadPlugin: no class, several, or one of another kind.
    """
    if entry.cls is not None:
        return entry.cls
    module = load_module(entry)
    if entry.argument is not None:
        return module.variant(entry.argument)
    if entry.attribute is not None:
        classes = [getattr(module, entry.attribute, None)]
    else:
        classes = [
            value
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and name[0] != "_"
        ]
    fitting = [c for c in classes if isinstance(c, type) and issubclass(c, base)]
    if len(fitting) != 1:
        names = ", ".join(c.__name__ for c in fitting) or "none"
        raise BadPlugin(
            expected=f"one public class deriving from {base.__name__} in {entry.path.name}",
            found=names,
            fix="Keep one; begin the names of helpers with an underscore",
        )
    return fitting[0]


def register(kind: Kind, cls: type) -> None:
    """Make a class of the caller's known, here and to the workers that runs start.

    Raises:
        BadPlugin: it was not defined in a file, so that no worker could find it.
    """
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if path is None or "." in cls.__qualname__:
        raise BadPlugin(
            expected=f"{cls.__name__} at the top level of a Python file, where workers find it",
            found=f"{cls.__qualname__} of {cls.__module__}, which they cannot import",
            fix="Write it to a file (in a notebook: %%writefile my_method.py) and name that file",
        )
    _registered[kind, Path(f"{Path(path).resolve()}:{cls.__name__}")] = cls


_registered: dict[tuple[Kind, Path], type] = {}
_lent: list[Entry] = []


@contextlib.contextmanager
def lent(kind: Kind, name: str, cls: type) -> Iterator[None]:
    """Make a class known for a while, to this process only; it may have no file of its own."""
    path = Path(getattr(sys.modules.get(cls.__module__), "__file__", None) or __file__)
    entry = Entry(name, kind, "this process", path, cls.__module__, cls=cls)
    _lent.append(entry)
    try:
        yield
    finally:
        _lent.remove(entry)


def with_registered(plugins: Iterable[Path]) -> list[str]:
    """What a worker, which may stand in another folder, must be told to find the same plugins."""
    return [str(p.resolve()) for p in dict.fromkeys([*plugins, *(path for _, path in _registered)])]


def _built_in(kind: Kind) -> Iterable[Entry]:
    if kind == "sources":
        return
    package = importlib.import_module(f"clgym.{kind}")
    for folder in package.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            if path.stem[0] != "_":
                yield _read(kind, path, f"clgym.{kind}.{path.stem}", "built-in")


def _installed(kind: Kind) -> Iterable[Entry]:
    for point in importlib.metadata.entry_points(group=f"clgym.{kind}"):
        origin = point.dist.name if point.dist else point.value
        try:
            spec = importlib.util.find_spec(point.module)
        except Exception as error:  # finding a module imports the package around it
            spec, reason = None, f"{type(error).__name__}: {error}"
        else:
            reason = f"no module {point.module}"
        if spec is None or spec.origin is None:
            path = Path(point.module)
            yield Entry(point.name, kind, origin, path, point.module, error=reason)
        else:
            entry = _read(kind, Path(spec.origin), point.module, origin)
            yield replace(entry, name=point.name.replace("_", "-"), attribute=point.attr or None)


def _named(kind: Kind, plugins: Sequence[Path]) -> Iterable[Entry]:
    mine = {path: cls for (of, path), cls in _registered.items() if of == kind}
    for given in dict.fromkeys([*plugins, *mine]):
        text, colon, attribute = str(given).rpartition(":")
        named = bool(colon) and not given.is_file()
        path = Path(text if named else given)
        if not path.is_file():
            raise BadPlugin(
                expected="a Python file that is a plugin",
                found=f"no file {path}",
                fix="Check the path",
            )
        path = path.resolve()
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
        entry = _read(kind, path, f"clgym_plugin_{digest}_{path.stem}", path.name)
        entry = replace(entry, given=str(given), cls=mine.get(given))
        if named:
            entry = replace(entry, name=_kebab(attribute), attribute=attribute)
        if entry.error or given in mine or kind in _kinds(path, attribute if named else None):
            yield entry


def _kebab(name: str) -> str:
    """``MyMethod`` as ``my-method``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", "-", name).lower()


_HOMES: dict[str, Kind] = {
    "clgym.strategy": "strategies",
    "clgym.strategies": "strategies",
    "clgym.avalanche": "strategies",
    "clgym.scenario": "scenarios",
    "clgym.scenarios": "scenarios",
    "clgym.data": "sources",
}


def _kinds(path: Path, attribute: str | None) -> set[Kind]:
    """Of which kinds a file's classes are, by the modules that their bases come from."""
    tree = ast.parse(path.read_text())
    homes = {
        alias.asname or alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found: dict[str, set[Kind]] = {}
    special: set[Kind]
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            kinds: set[Kind] = {kind for base in bases for kind in found.get(base, set())}
            modules = [".".join(homes.get(base, base).split(".")[:2]) for base in bases]
            kinds |= {_HOMES[m] for m in modules if m in _HOMES}
            found[node.name] = kinds
    special = {kind for name, kinds in found.items() if name[0] != "_" for kind in kinds}
    if attribute is not None:
        special = found.get(attribute, set())
    return special or {"strategies"}


def _read(kind: Kind, path: Path, module: str, origin: str) -> Entry:
    """Describe a file by its text: docstring, and the literals that declare facts."""
    name = path.stem.replace("_", "-")
    try:
        doc, facts = _facts(path.read_text())
    except (SyntaxError, UnicodeDecodeError) as error:
        return Entry(name, kind, origin, path, module, error=f"{type(error).__name__}: {error}")
    return Entry(
        name,
        kind,
        origin,
        path,
        module,
        summary=doc.split("\n", 1)[0],
        doc=doc,
        presets=copy.deepcopy(facts["PRESETS"] or {}),
        aliases=tuple(facts["ALIASES"] or ()),
        variants=tuple(facts["VARIANTS"] or ()),
    )


@functools.lru_cache(maxsize=256)
def _facts(text: str) -> tuple[str, dict[str, Any]]:
    """Docstring and literals of a file; kept, since every look-up of a name reads all files."""
    tree = ast.parse(text)
    facts = {fact: _literal(tree, fact) for fact in ("PRESETS", "ALIASES", "VARIANTS")}
    return ast.get_docstring(tree) or "", facts


def _literal(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        target = (
            node.targets[0]
            if isinstance(node, ast.Assign)
            else node.target
            if isinstance(node, ast.AnnAssign)
            else None
        )
        if isinstance(target, ast.Name) and target.id == name and node.value is not None:  # type: ignore[union-attr]
            return ast.literal_eval(node.value)  # type: ignore[union-attr]
    return None
