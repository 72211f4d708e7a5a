"""The command line: one module a command, each with ``main(argv) -> exit code``.

Nothing but parsing and printing. What is slow to import is imported where it is used, so that help
and typos answer at once. No code here: the module `clgym.cli.list` would hide the builtin from it.
"""

from clgym.cli._main import main

__all__ = ["main"]
