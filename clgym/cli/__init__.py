"""The command line: one module a command, each with ``main(argv) -> exit code``.

Modules only parse and print. Modules that are slow to import are imported where they are used, so
that help and error messages appear at once. This file holds no code, because the module
`clgym.cli.list` would hide the builtin `list` from it.
"""

from clgym.cli._main import main

__all__ = ["main"]
