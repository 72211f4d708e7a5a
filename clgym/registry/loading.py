"""Import a plugin's file and take its class."""

import importlib
import importlib.util
import sys
from types import ModuleType

from clgym.errors import BadPlugin
from clgym.registry.entry import PluginEntry

__all__ = ["fault", "load_class", "load_module"]


def load_module(entry: PluginEntry) -> ModuleType:
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
            fix=f"Correct {entry.path.name}",
        ) from error


def fault(entry: PluginEntry, base: type) -> str | None:
    """Reason why a plugin cannot be used, in one line; None if it can. Imports it."""
    if entry.error:
        return entry.error
    try:
        load_class(entry, base)
    except BadPlugin as error:
        return error.found
    return None


def load_class(entry: PluginEntry, base: type) -> type:
    """Import the plugin and return its class.

    Args:
        entry: From `find`.
        base: Required base class, given by the caller, since the registry does not know the rooms.

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
            fix="Keep one, and begin the names of helpers with an underscore",
        )
    return fitting[0]
