"""Describe a plugin by its file, which is parsed and never imported."""

import ast
import copy
import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clgym.registry.entry import Kind, PluginEntry

__all__ = ["kebab", "kinds_in", "literal_of", "read_entry"]


def kebab(name: str) -> str:
    """Convert ``MyMethod`` to ``my-method``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", "-", name).lower()


_DECLARED = re.compile(r"^(?:PRESETS|ALIASES|VARIANTS)\b", re.MULTILINE)
_HOMES: dict[str, Kind] = {
    "clgym.strategy": "strategies",
    "clgym.strategies": "strategies",
    "clgym.adaptation": "strategies",
    "clgym.avalanche": "strategies",
    "clgym.models": "strategies",
    "clgym.scenario": "scenarios",
    "clgym.scenarios": "scenarios",
    "clgym.streams": "scenarios",
    "clgym.adaptation.stream": "scenarios",
    "clgym.data": "sources",
}
"""Kind of plugin by the module of its base class; the longest matching name counts."""


def kinds_in(path: Path, attribute: str | None) -> set[Kind]:
    """Kinds of the classes of a file, or of a folder's files, by the modules of their bases."""
    files = sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]
    found: dict[str, set[Kind]] = {}
    for file in files:
        found |= _classes_of(ast.parse(file.read_text()), found)
    special: set[Kind] = {kind for name, kinds in found.items() if name[0] != "_" for kind in kinds}
    if attribute is not None:
        special = found.get(attribute, set())
    fallback: set[Kind] = {"strategies"}
    return special or fallback


def _classes_of(tree: ast.Module, known: Mapping[str, set[Kind]]) -> dict[str, set[Kind]]:
    """Kinds of a file's classes, by class; ``known`` has those of the folder's other files."""
    homes = {
        alias.asname or alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = dict(known)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            kinds: set[Kind] = {kind for base in bases for kind in found.get(base, set())}
            kinds |= {kind for base in bases if (kind := _home(homes.get(base, base)))}
            found[node.name] = kinds
    return found


def _home(module: str) -> Kind | None:
    """Kind of plugin by the module of its base class, or by a parent package of that module."""
    while module and module not in _HOMES:
        module = module.rpartition(".")[0]
    return _HOMES.get(module)


def read_entry(kind: Kind, path: Path, module: str, origin: str) -> PluginEntry:
    """Describe a plugin by the docstring of its file and the literals that declare facts."""
    about = path.stat()
    entry = _entry_of(kind, path, module, origin, (about.st_mtime_ns, about.st_size))
    return replace(entry, presets=copy.deepcopy(entry.presets))


@functools.lru_cache(maxsize=1024)
def _entry_of(
    kind: Kind, path: Path, module: str, origin: str, version: tuple[int, int]
) -> PluginEntry:
    """Cached description of a file; ``version`` distinguishes a changed file from the one read."""
    inside = path.name == "__init__.py"
    name = (path.parent.name if inside else path.stem).replace("_", "-")
    try:
        text = path.read_text()
        doc, facts = _facts_of_head(text) if origin == "built-in" else _facts(text)
    except (SyntaxError, ValueError) as error:
        return PluginEntry(
            name, kind, origin, path, module, error=f"{type(error).__name__}: {error}"
        )
    return PluginEntry(
        name,
        kind,
        origin,
        path,
        module,
        summary=doc.split("\n", 1)[0],
        doc=doc,
        presets=facts["PRESETS"] or {},
        aliases=tuple(facts["ALIASES"] or ()),
        variants=tuple(facts["VARIANTS"] or ()),
    )


def _facts_of_head(text: str) -> tuple[str, Mapping[str, Any]]:
    """Facts of a file that is known to be correct.

    The text after its first definition is parsed only if it declares facts, since parsing all
    built-in files takes a third of the time of `clgym list`.
    """
    head = re.split(r"^(?:class|def|@)", text, maxsplit=1, flags=re.MULTILINE)[0]
    if _DECLARED.search(text, len(head)):
        return _facts(text)
    try:
        return _facts(head)
    except SyntaxError:  # a line of the docstring begins with one of these words
        return _facts(text)


@functools.lru_cache(maxsize=256)
def _facts(text: str) -> tuple[str, Mapping[str, Any]]:
    """Docstring and literals of a file; cached, since every look-up of a name reads all files."""
    tree = ast.parse(text)
    names = ("PRESETS", "ALIASES", "VARIANTS")
    facts = {name: literal_of(tree, name) if name in text else None for name in names}
    return ast.get_docstring(tree) or "", facts


def literal_of(tree: ast.Module, name: str) -> Any:
    """Value of a name after a module's top level, as far as it is written as a literal.

    Args:
        tree: The module.
        name: Name that is assigned, with or without an annotation.

    Returns:
        The value of the last assignment; None if there is none.

    Raises:
        ValueError: The name gets its value in another way; the message says in which line.
    """
    found = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        value = _assigned(node, name)
        if value is None:
            if _changes(node, name):
                raise _not_literal(name, node)
            continue
        try:
            found = ast.literal_eval(value)
        except (ValueError, TypeError) as error:
            raise _not_literal(name, node) from error
    return found


def _not_literal(name: str, node: ast.stmt) -> ValueError:
    return ValueError(f"{name} is no literal in line {node.lineno}: {ast.unparse(node)[:60]}")


def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """What a statement assigns to a name, if it is a plain assignment to it."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    plain = any(isinstance(target, ast.Name) and target.id == name for target in targets)
    return node.value if plain else None


def _changes(node: ast.stmt, name: str) -> bool:
    """Whether a statement that is no plain assignment binds a name, or changes its value."""
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return False
    if isinstance(node, ast.Import | ast.ImportFrom):
        return any((alias.asname or alias.name) == name for alias in node.names)
    for inner in ast.walk(node):
        owner = inner.value if isinstance(inner, ast.Subscript | ast.Attribute) else inner
        stored = isinstance(getattr(inner, "ctx", None), ast.Store | ast.Del)
        method = isinstance(node, ast.Expr) and isinstance(inner, ast.Attribute)
        if isinstance(owner, ast.Name) and owner.id == name and (stored or method):
            return True
    return False
