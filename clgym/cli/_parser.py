"""argparse, with clgym's errors in place of its own."""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from clgym.errors import ClgymError, UnknownName, near

__all__ = ["BadUsage", "Parser", "Several", "add_data_root_option", "add_plugin_option"]


# Two messages of argparse's, of which the second names a type of Python.
_BAD_CHOICE = re.compile(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)")
_BAD_NUMBER = re.compile(r"argument (\S+): invalid (int|float) value: (.*)")
_NUMBERS = {"int": "a whole number", "float": "a number"}


class BadUsage(ClgymError):
    """A command line that cannot be parsed."""

    problem = "could not parse the command"


class Parser(argparse.ArgumentParser):
    """A parser with named errors, which answers unknown options with near matches."""

    def __init__(self, prog: str, doc: str | None, **options: Any) -> None:
        """Take the help text from a module's docstring."""
        super().__init__(
            prog=prog,
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        """Turn argparse's message into a named error."""
        if choice := _BAD_CHOICE.fullmatch(message):
            option, found, known = choice[1], choice[2], choice[3].replace("'", "")
            raise BadUsage(
                expected=f"{option} to be one of {known}",
                found=found,
                fix=f"{near(found.strip(chr(39)), known.split(', '))}See `{self.prog} --help`",
            )
        if number := _BAD_NUMBER.fullmatch(message):
            option, kind, found = number.groups()
            raise BadUsage(
                expected=f"{option} to be {_NUMBERS[kind]}",
                found=found,
                fix=f"Give {option} another value",
            )
        raise BadUsage(
            expected=f"valid arguments of `{self.prog}`",
            found=message,
            fix=f"See `{self.prog} --help`",
        )

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all words.

        Raises:
            UnknownName: The parser has no such option.
            BadUsage: The words cannot be parsed for another reason.
        """
        values, rest = self.parse_known_args(list(words))
        for word in rest:
            if word.startswith("-"):
                self.refuse(word)
        if rest:
            self.error(f"unexpected {' '.join(rest)!r}")
        return values

    def refuse(self, word: str) -> NoReturn:
        """Raise for an option that does not exist."""
        known = [option for option in self._option_string_actions if option.startswith("--")]
        name = word.partition("=")[0]
        raise UnknownName(
            expected=f"an option of `{self.prog}`",
            found=name,
            fix=f"{near(name, known)}`{self.prog} --help` lists them",
        )


class Several(argparse.Action):
    """An option with a list of values: ``csv tensorboard`` or ``csv,tensorboard``."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        *,
        known: Sequence[str] = (),
        convert: Callable[[list[str]], Any] = list,
        **options: Any,
    ) -> None:
        """Declare the option.

        Args:
            option_strings: Names of the option.
            dest: Name of its value.
            known: The words that are allowed; () allows all.
            convert: Converts the words to the value; raises ``argparse.ArgumentTypeError``.
            **options: Further keywords of argparse.
        """
        super().__init__(option_strings, dest, nargs="+", **options)
        self.known, self.convert = tuple(known), convert

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Split at commas, check, convert."""
        words = [part for word in values for part in word.replace(",", " ").split()]
        for word in words if self.known else ():
            if word not in self.known:
                allowed = ", ".join(self.known)
                raise argparse.ArgumentError(self, f"{word!r} is none of {allowed}")
        try:
            setattr(namespace, self.dest, self.convert(words))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None


def add_plugin_option(target: argparse._ActionsContainer) -> None:
    """Add ``--plugin FILE``."""
    target.add_argument(
        "--plugin",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="Python file with a strategy or a scenario; may be repeated.",
    )


def add_data_root_option(target: argparse._ActionsContainer) -> None:
    """Add ``--data-root DIR``."""
    target.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="Folder of the data sets. (default: $CLGYM_DATA, else the user's data folder)",
    )
