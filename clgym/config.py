"""Typed configs: a frozen dataclass declares its fields, their ranges and one line of help each.

A strategy's config lives in the learner's process, which imports torch and the plugin; the gym and
the command line see it only as a `Field` list (plain data), so that flags are parsed and values are
checked without running a line of the plugin where the labels are.
"""

import ast
import dataclasses
import functools
import inspect
import math
import textwrap
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from clgym.errors import BadConfig, UnknownName, near

__all__ = ["WRAPS", "Field", "Range", "Wrapped", "build", "fields_of", "values_of"]

WRAPS = "strategy"
"""Kind of a field that names a wrapped strategy, whose options follow as ``field.NAME``."""


@dataclass(frozen=True)
class Wrapped:
    """Type of a config field that names a strategy to wrap."""

    name: str
    cls: type | None = None
    """Class of the wrapped strategy; set, with its config, in the learner's process."""
    config: Any = None

    def make(self) -> Any:
        """The strategy itself, not set up yet."""
        assert self.cls is not None
        return self.cls(self.config)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


@dataclass(frozen=True)
class Range:
    """Closed range of a number; ``None`` leaves a side open, ``exclusive`` excludes ``low``."""

    low: float | None = None
    high: float | None = None
    exclusive: bool = False

    def __contains__(self, value: float) -> bool:
        """Say whether ``value`` lies inside; NaN and infinity lie nowhere."""
        if not math.isfinite(value):
            return False
        above = self.low is None or (value > self.low if self.exclusive else value >= self.low)
        return above and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        """Say the bounds in words."""
        word = "above" if self.exclusive else "at least"
        low = None if self.low is None else f"{word} {_number(self.low)}"
        high = None if self.high is None else f"at most {_number(self.high)}"
        return " and ".join(part for part in (low, high) if part) or "any number"


@dataclass(frozen=True)
class Field:
    """One config option as plain data, for the command line, the record and error messages.

    ``kind`` is one of int, float, bool, str, choice, ints, floats, strategy; ``optional`` admits
    None.
    """

    name: str
    kind: str
    default: Any
    help: str = ""
    optional: bool = False
    required: bool = False
    low: int | float | None = None  # int is named, too: whole bounds stay whole across the wire
    high: int | float | None = None
    exclusive: bool = False
    choices: tuple[str, ...] = ()

    def check(self, value: Any, owner: str) -> Any:
        """Return ``value`` in the field's type, or raise BadConfig."""
        if value is None and self.optional:
            return None
        try:
            result = _convert(self.kind, value, self.choices)
        except (TypeError, ValueError):
            raise BadConfig(
                expected=f"{owner}.{self.name} to be {self._wanted()}",
                found=repr(value),
                fix=f"Give --{self.name.replace('_', '-')} another value",
            ) from None
        bounds = Range(self.low, self.high, self.exclusive)
        numbers = result if isinstance(result, tuple) else (result,)
        numeric = self.kind in ("int", "float", "ints", "floats")
        if numeric and any(n not in bounds for n in numbers):
            raise BadConfig(
                expected=f"{owner}.{self.name} to be {bounds}",
                found=repr(value),
                fix=f"Give --{self.name.replace('_', '-')} a value in that range",
            )
        return result

    def _wanted(self) -> str:
        words = {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "str": "text",
            "choice": f"one of {', '.join(self.choices)}",
            "ints": "whole numbers",
            "floats": "numbers",
            WRAPS: "the name of a strategy",
        }
        return words[self.kind] + (" or none" if self.optional else "")


def _convert(kind: str, value: Any, choices: tuple[str, ...]) -> Any:
    if kind in ("ints", "floats"):
        items = value.replace(",", " ").split() if isinstance(value, str) else value
        items = items if isinstance(items, (list, tuple)) else [items]
        return tuple(_convert(kind[:-1], item, ()) for item in items)
    if kind == "bool":
        return _as_bool(value)
    if kind in ("int", "float") and isinstance(value, bool):
        raise ValueError(value)
    if kind == "int":
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(value)
        return int(value)
    if kind == "float":
        return float(value)
    if not isinstance(value, str) or (kind == "choice" and value not in choices):
        raise ValueError(value)
    return value


def _as_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(value)


def fields_of(cls: type) -> list[Field]:
    """Read the options of a config dataclass: types, ranges and help."""
    hints = get_type_hints(cls, include_extras=True)
    helps: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        helps.update(_help_lines(base))
    return [_field(f, hints[f.name], helps.get(f.name, "")) for f in dataclasses.fields(cls)]


def _field(field: dataclasses.Field, hint: Any, help_line: str) -> Field:
    hint, bounds, optional = _peel(hint)
    kind, choices = _kind(hint, field.name)
    default = None if field.default is dataclasses.MISSING else field.default
    default = default.name if isinstance(default, Wrapped) else default
    return Field(
        name=field.name,
        kind=kind,
        default=default,
        help=field.metadata.get("help", help_line),
        optional=optional,
        required=field.default is dataclasses.MISSING,
        low=bounds.low,
        high=bounds.high,
        exclusive=bounds.exclusive,
        choices=choices,
    )


def _peel(hint: Any) -> tuple[Any, Range, bool]:
    """Take ``Annotated`` and ``| None`` off a type, in whichever order they were put on."""
    bounds, optional = Range(), False
    while True:
        if get_origin(hint) is Annotated:
            hint, *marks = get_args(hint)
            bounds = next((mark for mark in marks if isinstance(mark, Range)), bounds)
        elif get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
            (hint,) = (arg for arg in get_args(hint) if arg is not type(None))
            optional = True
        else:
            return hint, bounds, optional


def _kind(hint: Any, name: str) -> tuple[str, tuple[str, ...]]:
    if get_origin(hint) is Literal:
        return "choice", tuple(get_args(hint))
    if get_origin(hint) is tuple and get_args(hint)[0] in (int, float):
        return get_args(hint)[0].__name__ + "s", ()
    if hint in (int, float, bool, str):
        return hint.__name__, ()
    if hint is Wrapped:
        return WRAPS, ()
    raise TypeError(
        f"config field {name}: {hint} is not int, float, bool, str, Literal, tuple or Wrapped"
    )


@functools.cache  # parsing is slow, and a class's text does not change
def _help_lines(cls: type) -> dict[str, str]:
    """The string under each annotated field of the class body: its help."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for statement, following in zip(body, body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        ):
            found[statement.target.id] = " ".join(following.value.value.split())
    return found


def resolve(fields: list[Field], given: Mapping[str, Any], owner: str) -> dict[str, object]:
    """Return the complete config as plain data: defaults and given values, checked.

    Raises:
        UnknownName: a key that no field has.
        BadConfig: a value of the wrong type or outside its range, or a required one left out.
    """
    names = [f.name for f in fields]
    given = {key.replace("-", "_"): value for key, value in given.items()}
    for key in given:
        if key not in names:
            raise UnknownName(
                expected=f"an option of {owner} ({', '.join(names) or 'it has none'})",
                found=repr(key),
                fix=f"{near(key, names)}`clgym show {owner}` lists them",
            )
    for field in fields:
        if field.required and field.name not in given:
            raise BadConfig(
                expected=f"a value for {owner}.{field.name}",
                found="none",
                fix=f"Give --{field.name.replace('_', '-')}",
            )
    return {f.name: f.check(given[f.name], owner) if f.name in given else f.default for f in fields}


def build(cls: type, given: Mapping[str, Any], owner: str) -> Any:
    """Create a config of class ``cls`` from checked values."""
    return cls(**resolve(fields_of(cls), given, owner))


def values_of(config: Any) -> dict[str, object]:
    """Return a config as flat, JSON-ready values; tuples become lists."""
    values: dict[str, object] = {}
    for name in (f.name for f in dataclasses.fields(config)):
        value = getattr(config, name)
        if isinstance(value, Wrapped):
            values[name] = value.name
            inner = values_of(value.config) if value.config is not None else {}
            values |= {f"{name}.{key}": v for key, v in inner.items()}
        else:
            values[name] = list(value) if isinstance(value, tuple) else value
    return values
