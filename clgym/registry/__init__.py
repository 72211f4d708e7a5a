"""Find plugins by name. Listing parses files without importing them; `load_class` imports one.

A plugin is a file in ``strategies/`` or ``scenarios/``, another distribution's entry point, or a
file named by the user. The file's name is the plugin's name, the first line of its docstring its
description. A class of a file with several is named ``FILE:CLASS``; the plugin's name is then the
class's (``MyMethod``: ``my-method``). A plugin of several files is a folder with an
``__init__.py``, and has the folder's name.

Built-in sources are data (`clgym.data.cards`), not plugins; `entries` returns all other sources.
"""

from clgym._moved import report_renamed
from clgym.registry.entry import Kind, PluginEntry
from clgym.registry.finding import (
    entries,
    find,
    is_path,
    named_file,
    named_source,
    register,
    reserve,
    strategy_files,
    temporarily_registered,
    with_registered,
)
from clgym.registry.from_source import import_from_source
from clgym.registry.loading import fault, load_class, load_module

__all__ = [
    "PluginEntry",
    "Kind",
    "entries",
    "fault",
    "find",
    "import_from_source",
    "temporarily_registered",
    "load_class",
    "is_path",
    "load_module",
    "named_file",
    "named_source",
    "register",
    "reserve",
    "strategy_files",
    "with_registered",
]

report_renamed(__name__)
