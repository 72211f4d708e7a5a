"""A page about every command, from the parser that reads its command line."""

import argparse
import importlib
from collections.abc import Iterator
from unittest.mock import patch

from writing import cell, table

from clgym.cli._main import _commands

__all__ = ["page"]

INTRODUCTION = """# Commands

Generated from the parsers that read the command lines. `clgym COMMAND --help` prints the same, and
`clgym run STRATEGY SCENARIO --help` the options of a pairing, too.
"""


class _Asked(Exception):
    """Carries a command's parser out of the command."""


def page() -> str:
    """The page."""
    return "\n".join([INTRODUCTION, *(_described(name) for name in _commands())])


def _described(name: str) -> str:
    parser = _parser(name)
    first, *rest = (parser.description or "").strip().split("\n\n")
    parts = [
        f"## clgym {name}\n",
        f"{' '.join(first.split())}\n",
        f"```text\n{_usage(parser)}\n```\n",
    ]
    parts += [_text(paragraph) for paragraph in rest]
    for group in parser._action_groups:
        rows = list(_rows(group))
        title = (group.title or "").replace("positional arguments", "arguments")
        parts += (
            [f"**{title[:1].upper()}{title[1:]}**\n", table(("name", "what it does"), rows)]
            if rows
            else []
        )
    return "\n".join(parts)


def _parser(name: str) -> argparse.ArgumentParser:
    """The parser that answers ``--help``, with the command stopped before it prints."""

    def stop(self: argparse.ArgumentParser, file: object = None) -> None:
        raise _Asked(self)

    with patch.object(argparse.ArgumentParser, "print_help", stop):
        try:
            importlib.import_module(f"clgym.cli.{name}").main(["--help"])
        except _Asked as asked:
            return asked.args[0]
    raise RuntimeError(f"clgym {name} --help printed nothing")


def _usage(parser: argparse.ArgumentParser) -> str:
    return parser.format_usage().removeprefix("usage: ").strip()


def _text(paragraph: str) -> str:
    """A paragraph of the description; lists of names keep their lines."""
    lines = paragraph.strip("\n").splitlines()
    if all(line.startswith("  ") for line in lines):
        return "```text\n" + "\n".join(line[2:] for line in lines) + "\n```\n"
    return f"{cell(' '.join(lines))}\n"


def _rows(group: argparse._ArgumentGroup) -> Iterator[tuple[str, str]]:
    formatter = argparse.HelpFormatter("clgym", width=200)
    for action in group._group_actions:
        if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
            continue
        shown = formatter._format_action_invocation(action)
        yield cell(f"`{shown}`"), cell(formatter._expand_help(action) if action.help else "")
