"""Import a plugin's file and take its class."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

from clgym.errors import BadPlugin, ClgymError
from clgym.registry.entry import PluginEntry
from clgym.registry.from_source import import_from_source

__all__ = ["Convert", "fault", "load_class", "load_module"]


def load_module(entry: PluginEntry) -> ModuleType:
    """Import the plugin's module.

    Raises:
        BadPlugin: The import raised an exception.
    """
    if entry.module in sys.modules:
        return sys.modules[entry.module]
    import_from_source()
    try:
        if not entry.module.startswith("clgym_plugin_"):
            return importlib.import_module(entry.module)
        inside = [str(entry.path.parent)] if entry.path.name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(
            entry.module, entry.path, submodule_search_locations=inside
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{entry.file_name} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[entry.module] = module
        spec.loader.exec_module(module)
        return module
    except ClgymError as error:
        sys.modules.pop(entry.module, None)
        found = f"{error.found}, in {entry.file_name}"
        raise BadPlugin(expected=error.expected, found=found, fix=error.fix) from error
    except Exception as error:
        sys.modules.pop(entry.module, None)
        raise BadPlugin(
            expected=f"{entry.name!r} to be importable",
            found=f"{type(error).__name__}: {error}",
            fix=f"Correct {entry.file_name}",
        ) from error


Convert = Callable[[type], type | None]
"""Function that converts a class with another base to one with the required base, or returns None.
"""


def fault(entry: PluginEntry, base: type, convert: Convert = lambda cls: None) -> str | None:
    """Import a plugin, and return in one line why it cannot be used; None if it can."""
    if entry.error:
        return entry.error
    try:
        load_class(entry, base, convert)
    except BadPlugin as error:
        return error.found
    return None


def load_class(entry: PluginEntry, base: type, convert: Convert = lambda cls: None) -> type:
    """Import the plugin and return its class.

    Args:
        entry: Entry of the plugin, from `find`.
        base: Required base class, given by the caller, so that the registry need not import it.
        convert: Converts a class with another base; used if no class derives from ``base``.

    Raises:
        BadPlugin: The file has no class, several, or one of another kind.
    """
    if entry.cls is not None:
        return entry.cls
    module = load_module(entry)
    if entry.argument is not None:
        return module.variant(entry.argument)
    if entry.attribute is not None:
        classes = [getattr(module, entry.attribute, None)]
    else:
        classes = [v for name, v in vars(module).items() if name[0] != "_" and _is_of(v, module)]
    fitting = [c for c in classes if isinstance(c, type) and issubclass(c, base)]
    if not fitting:
        found = [convert(c) for c in classes if isinstance(c, type)]
        fitting = [c for c in found if c is not None]
    if len(fitting) != 1:
        names = ", ".join(c.__name__ for c in fitting) or "none"
        raise BadPlugin(
            expected=f"one public class deriving from {base.__name__} in {entry.file_name}",
            found=names,
            fix="Keep one, and begin the names of helpers with an underscore",
        )
    return fitting[0]


def _is_of(value: object, module: ModuleType) -> bool:
    """Whether a class is defined in a module or in one of its submodules."""
    home = value.__module__ if isinstance(value, type) else ""
    return home == module.__name__ or home.startswith(f"{module.__name__}.")
