"""Entry point of the command line: calls the command's module and maps errors to exit codes."""

import atexit
import gc
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import clgym.cli
from clgym.cli._parser import BadUsage
from clgym.errors import ClgymError, near

__all__ = ["main"]

FAILED, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # At its exit Python looks once more for garbage among all that was imported, which takes a
    # sixth of the time of a short command; the system takes the memory back anyway.
    atexit.unregister(gc.freeze)  # once, however often this function is called
    atexit.register(gc.freeze)
    try:
        return _dispatch(words)
    except ClgymError as error:
        print(f"error: {error.problem}: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `clgym list | head` closes the pipe early. Python would report it again at its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(words: list[str]) -> int:
    commands = _commands()
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help(commands))
        return 0
    if words[0] == "--version":
        print(f"clgym {clgym.__version__}")
        return 0
    if words[0] not in commands:
        raise BadUsage(
            expected=f"a command ({', '.join(commands)})",
            found=repr(words[0]),
            fix=f"{near(words[0], commands)}`clgym --help` describes each",
        )
    return importlib.import_module(f"clgym.cli.{words[0]}").main(words[1:])


def _commands() -> list[str]:
    return [m.name for m in pkgutil.iter_modules(clgym.cli.__path__) if not m.name.startswith("_")]


def _help(commands: list[str]) -> str:
    """Help with the first line of each command's file, which is read and not imported."""
    lines = ["usage: clgym COMMAND ...", "", "A benchmark gym for continual learning.", ""]
    for name in commands:
        with Path(__file__).with_name(f"{name}.py").open() as file:
            summary = file.readline().strip().strip('"')  # parsing all files takes longer than help
        lines.append(f"  {name:<9} {summary}")
    lines += [
        "",
        "`clgym COMMAND --help` describes one; `clgym --version` prints the version.",
    ]
    return "\n".join(lines)
