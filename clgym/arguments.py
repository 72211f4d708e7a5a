"""Checks of the arguments of public functions: a mistake is named, not met inside."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import cast

from clgym.errors import BadConfig, UnknownName, near

__all__ = ["check_arguments", "folders_of", "name_of", "names_of"]


def folders_of(given: Iterable[object]) -> list[Path]:
    """Paths that were given one by one, or as lists.

    Raises:
        BadConfig: Something else was given, such as a record.
    """
    found: list[Path] = []
    for one in given:
        several = isinstance(one, (list, tuple))
        for path in cast(Sequence[object], one) if several else (one,):
            if not isinstance(path, (str, os.PathLike)):
                raise BadConfig(
                    expected="paths of output folders",
                    found=f"a {type(path).__name__}",
                    fix="Give the folders that `clgym.run(..., out=FOLDER)` wrote",
                )
            found.append(Path(cast("str | os.PathLike[str]", path)))
    return found


def names_of(given: str | Sequence[str]) -> tuple[str, ...]:
    """Names that were given in a list, or one name by itself."""
    return (given,) if isinstance(given, str) else tuple(given)


def name_of(given: object) -> str:
    """A name or path as text.

    Raises:
        BadConfig: It is something else, such as a stream.
    """
    if isinstance(given, (str, os.PathLike)):
        return os.fspath(cast("str | os.PathLike[str]", given))
    raise BadConfig(
        expected="the name of a plugin, or the path of its file",
        found=f"a {type(given).__name__}",
        fix='Give a name such as "split-digits"; `clgym list` shows all names',
    )


def check_arguments(options: Mapping[str, object], asked: type, function: str) -> None:
    """Refuse arguments that a function does not have.

    Raises:
        UnknownName: The message says where options of the strategy belong.
    """
    known = [field.name for field in fields(asked)]
    for name in options:
        if name not in known:
            raise UnknownName(
                expected=f"an argument of {function}",
                found=repr(name),
                fix=f"{near(name, known)}Options of the strategy go into config={{...}}",
            )
