"""Checks of a file's declarations: its first line, its options, their limits. No torch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from clgym import config as configs
from clgym.check.report import Failed
from clgym.config import Field
from clgym.errors import BadConfig, BadPlan
from clgym.protocol.space import parse

__all__ = ["check_bounds", "check_words"]


def check_words(summary: str, fields: Sequence[Field]) -> str:
    """Return the file's summary, after a check that it and all help lines exist.

    Raises:
        Failed: The file has no docstring, or an option has no line of help.
    """
    if not summary:
        raise Failed("no docstring in the file", "Begin the file with a line that says what it is")
    silent = [field.name for field in fields if not field.help]
    if silent:
        raise Failed(
            f"no help for {', '.join(silent)}", "Put a string under each field of the Config"
        )
    return summary


def check_bounds(cls: type, fields: Sequence[Field], owner: str) -> str:
    """Return a sentence on how many bad values the options refuse.

    Raises:
        Failed: An option accepts any value, or refuses its own default or search values.
    """
    if not dataclasses.is_dataclass(cls) or not getattr(cls, "__dataclass_params__").frozen:  # noqa: B009
        raise Failed(f"{cls.__name__} is no frozen dataclass", "Write @dataclass(frozen=True)")
    _check_search(fields, owner)
    refused = 0
    for field in fields:
        _check_default(field, owner)
        bad = _bad_values(field)
        if not bad and field.kind in ("int", "float", "ints", "floats"):
            raise Failed(
                f"{field.name} accepts any number",
                f"Declare its limits: {field.name}: Annotated[{field.kind}, Ge(low), Le(high)]",
            )
        for value in bad:
            _must_refuse(field, value, owner)
        refused += len(bad)
    return f"{len(fields)} options, {refused} bad values refused"


def _check_default(field: Field, owner: str) -> None:
    if field.required:
        return
    try:
        field.check(field.default, owner)
    except BadConfig as error:
        raise Failed(
            f"the default {field.default!r} of {field.name} is refused: expected {error.expected}",
            "Give it a default within its own limits",
        ) from error


def _check_search(fields: Sequence[Field], owner: str) -> None:
    try:
        parse({f.name: f.search for f in fields if f.search is not None}, fields, owner)
    except BadPlan as error:
        raise Failed(error.found, "Give Search values that the option accepts") from error


def _bad_values(field: Field) -> list[Any]:
    """Values that the field must refuse; [] if its declaration excludes none."""
    values: list[Any] = []
    if field.kind in ("int", "float", "ints", "floats"):
        step = {"gt": 0, "ge": -1, "lt": 0, "le": 1}
        values += [bound + step[name] for name, bound in field.bounds.items()]
        values += ["word", float("nan")] if values else []
    if field.kind == "choice":
        values += ["no such choice", 3]
    if field.kind == "bool":
        values += ["perhaps"]
    return values


def _must_refuse(field: Field, value: Any, owner: str) -> None:
    try:
        configs.resolve([field], {field.name: value}, owner)
    except BadConfig:
        return
    raise Failed(f"{field.name} accepts {value!r}", "Declare its limits, or write a Literal")
