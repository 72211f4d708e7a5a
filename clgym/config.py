"""Typed configs: a frozen dataclass declares its fields, each with a range and a line of help.

Types and constraints are those that pydantic knows, such as ``Annotated[float, Gt(0), Le(1)]`` with
the constraints of ``annotated_types``. A strategy's config lives in the learner's process, which
imports torch and the plugin; the gym and the command line get it only as a list of `Field` (plain
data), from which pydantic's validator is built again. So options are parsed and values are checked
without running code of the plugin in the process that holds the labels.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from clgym._moved import report_renamed
from clgym.errors import BadConfig, UnknownName, near

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["WRAPS", "Field", "Search", "When", "Wrapped", "build", "fields_of", "values_of"]

report_renamed(__name__)

WRAPS = "strategy"
"""Kind of a field that names a wrapped strategy, whose options follow as ``field.NAME``."""

_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
"""Words for the constraints of ``annotated_types``, by name."""


@dataclass(frozen=True)
class Wrapped:
    """Type of a config field that names a strategy to wrap."""

    name: str
    cls: type | None = None
    """Class of the wrapped strategy; set, with its config, in the learner's process."""
    config: Any = None

    def make(self) -> Any:
        """Return the wrapped strategy before its `setup`."""
        assert self.cls is not None
        return self.cls(self.config)


class Search:
    """Values of an option that ``clgym tune`` tries, given in the option's annotation.

    ``Search(0.01, 0.1)`` lists values; ``Search(low=1e-5, high=1e-2, log=True)`` is a range that
    includes both ends. A module's literal ``SPACE`` replaces all of them.

    Attributes:
        literal: The same in the form of ``SPACE``; see `clgym.protocol.space`.
    """

    def __init__(
        self,
        *values: object,
        low: float | None = None,
        high: float | None = None,
        log: bool = False,
        when: Mapping[str, Sequence[object]] | None = None,
    ) -> None:
        """Store values or a range.

        Args:
            values: Values to try.
            low: Lowest value of a range.
            high: Highest value of a range.
            log: Whether the logarithm of a range's values is uniform.
            when: Other options with those of their values for which this option has an effect.

        Raises:
            TypeError: Both values and a range are given, or neither.
        """
        if bool(values) == (low is not None or high is not None or log):
            raise TypeError("Search needs either values, or low and high")
        span = {"low": low, "high": high} | ({"log": True} if log else {})
        literal: dict[str, object] = {"values": list(values)} if values else {**span}
        self.literal = literal | ({"when": dict(when)} if when else {})


class When:
    """Another option with those of its values for which this one has an effect, as an annotation.

    After ``When("kind", "infinite", "wsd")`` any value but the default is refused with another
    ``kind``, since it would change nothing, and a study does not vary it there.
    """

    def __init__(self, option: str, value: object, *values: object) -> None:
        """Store the condition."""
        self.option, self.values = option, (value, *values)


@dataclass(frozen=True)
class Field:
    """One config option as plain data, for the command line, the record and error messages.

    ``kind`` is one of int, float, bool, str, choice, ints, floats, strategy; ``optional`` allows
    None. The bounds of a number are named as in ``annotated_types``: gt (above), ge (at least), lt
    (below), le (at most); for ints and floats they hold for each number.
    """

    name: str
    kind: str
    default: Any
    help: str = ""
    optional: bool = False
    required: bool = False
    # int is included, so that whole bounds stay whole when they are sent
    gt: int | float | None = None
    ge: int | float | None = None
    lt: int | float | None = None
    le: int | float | None = None
    choices: tuple[str, ...] = ()
    search: Mapping[str, object] | None = None
    """Values to try in a study, as in ``SPACE``; None if it is not tuned."""
    when: Mapping[str, Sequence[object]] | None = None
    """Other options with their values for which this one has an effect; None if it always has."""

    @property
    def bounds(self) -> dict[str, int | float]:
        """The bounds that are set, by their names."""
        given = {name: getattr(self, name) for name in _BOUNDS}
        return {name: bound for name, bound in given.items() if bound is not None}

    @property
    def limits(self) -> str:
        """The bounds in words; empty without any."""
        return " and ".join(f"{_BOUNDS[name]} {_number(n)}" for name, n in self.bounds.items())

    @property
    def effect(self) -> str:
        """Options with which this one has an effect, in words; empty if it always has."""
        return " and ".join(
            f"with --{name.replace('_', '-')} {' or '.join(map(_word, values))}"
            for name, values in (self.when or {}).items()
        )

    def check(self, value: Any, owner: str) -> Any:
        """Return ``value`` in the field's type, or raise BadConfig."""
        # imported here, since listing plugins does not need pydantic
        from pydantic import ValidationError

        bounds = tuple(self.bounds.items())
        try:
            return _validator(self.kind, bounds, self.choices, self.optional).validate_python(value)
        except ValidationError:
            raise BadConfig(
                expected=f"{owner}.{self.name} to be {self._wanted()}",
                found=repr(value),
                fix=f"Give --{self.name.replace('_', '-')} another value",
            ) from None

    def _wanted(self) -> str:
        words = {
            "int": "a whole number",
            "float": "a finite number",
            "bool": "true or false",
            "str": "text",
            "choice": f"one of {', '.join(self.choices)}",
            "ints": "whole numbers",
            "floats": "finite numbers",
            WRAPS: "the name of a strategy",
        }
        bounded = ", ".join(part for part in (words[self.kind], self.limits) if part)
        return bounded + (" or none" if self.optional else "")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


@functools.cache
def _validator(
    kind: str, bounds: tuple[tuple[str, float], ...], choices: tuple[str, ...], optional: bool
) -> "TypeAdapter[Any]":
    """Pydantic's validator of a kind of field: text is converted, and NaN is refused."""
    from annotated_types import Interval
    from pydantic import BeforeValidator, ConfigDict, StrictStr, TypeAdapter

    def number(kind: str) -> Any:
        of = {"int": int, "float": float}[kind]
        return Annotated[of, Interval(**dict(bounds)), BeforeValidator(_no_bool)]

    plain = {"bool": bool, "str": StrictStr, WRAPS: StrictStr}
    if kind == "choice":
        hint: Any = Literal[choices]
    elif kind in ("ints", "floats"):
        hint = Annotated[tuple[number(kind[:-1]), ...], BeforeValidator(_as_items)]
    else:
        hint = plain[kind] if kind in plain else number(kind)
    return TypeAdapter(hint | None if optional else hint, config=ConfigDict(allow_inf_nan=False))


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a Boolean is not a number")
    return value


def _as_items(value: object) -> object:
    """Convert ``4 3 3``, ``4,3,3`` and a single number to lists."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return value if isinstance(value, (list, tuple)) else [value]


def fields_of(cls: type, helped: bool = True) -> list[Field]:
    """Read the options of a config dataclass: types, ranges, search values, help if ``helped``.

    Raises:
        TypeError: An option has a type or a constraint that is not supported.
    """
    hints = get_type_hints(cls, include_extras=True)
    helps: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]) if helped else ():
        helps.update(_help_lines(base))
    found = [_field(f, hints[f.name], helps.get(f.name, "")) for f in dataclasses.fields(cls)]
    for field in found:
        if unknown := set(field.when or ()) - {f.name for f in found}:
            raise TypeError(f"config field {field.name}: When names {min(unknown)}, no option")
    return found


def _field(field: dataclasses.Field, hint: Any, help_line: str) -> Field:
    hint, marks, optional = _peel(hint)
    kind, choices = _kind(hint, field.name)
    search = next((mark for mark in marks if isinstance(mark, Search)), None)
    when = {mark.option: mark.values for mark in marks if isinstance(mark, When)}
    limits = [mark for mark in marks if mark is not search and not isinstance(mark, When)]
    if limits and kind not in ("int", "float"):
        raise TypeError(
            f"config field {field.name}: {limits[0]!r} applies to numbers; for the numbers of a "
            "list write tuple[Annotated[int, Ge(1)], ...]"
        )
    if kind in ("ints", "floats"):
        limits = _peel(get_args(hint)[0])[1]
    bounds = _bounds(limits, field.name)
    if kind in ("int", "ints") and any(bound != int(bound) for bound in bounds.values()):
        raise TypeError(f"config field {field.name}: bounds of whole numbers must be whole")
    default = None if field.default is dataclasses.MISSING else field.default
    default = default.name if isinstance(default, Wrapped) else default
    made = Field(
        name=field.name,
        kind=kind,
        default=default,
        help=field.metadata.get("help", help_line),
        optional=optional,
        required=field.default is dataclasses.MISSING,
        choices=choices,
        search=search and search.literal,
        when=when or None,
    )
    return dataclasses.replace(made, **bounds)


def _peel(hint: Any) -> tuple[Any, list[Any], bool]:
    """Remove ``Annotated`` and ``| None`` from a type, in any order of nesting."""
    marks: list[Any] = []
    optional = False
    while True:
        if get_origin(hint) is Annotated:
            hint, *outer = get_args(hint)
            marks = [*outer, *marks]
        elif get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
            (hint,) = (arg for arg in get_args(hint) if arg is not type(None))
            optional = True
        else:
            return hint, marks, optional


def _kind(hint: Any, name: str) -> tuple[str, tuple[str, ...]]:
    """Kind of a bare type, and its choices."""
    if get_origin(hint) is Literal:
        return "choice", tuple(get_args(hint))
    if get_origin(hint) is tuple and (item := _peel(get_args(hint)[0])[0]) in (int, float):
        return f"{item.__name__}s", ()
    if hint in (int, float, bool, str):
        return hint.__name__, ()
    if hint is Wrapped:
        return WRAPS, ()
    raise TypeError(
        f"config field {name}: {hint} is not int, float, bool, str, Literal, tuple or Wrapped"
    )


def _bounds(marks: Sequence[Any], name: str) -> dict[str, int | float]:
    """Bounds set by constraints of ``annotated_types``; other constraints are refused."""
    found: dict[str, int | float] = {}
    for mark in marks:
        said = {key: getattr(mark, key) for key in _BOUNDS if getattr(mark, key, None) is not None}
        if not said:
            raise TypeError(
                f"config field {name}: {mark!r} is not Ge, Gt, Le, Lt, Interval, Search or When"
            )
        found |= said
    return found


@functools.cache  # cached, since parsing is slow and the text of a class does not change
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
        UnknownName: No field has the name of a key.
        BadConfig: A value has the wrong type, is out of range or has no effect with the others, or
            a required one is missing.
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
    chosen = {f.name: f.check(given[f.name], owner) for f in fields if f.name in given}
    values = {f.name: chosen.get(f.name, f.default) for f in fields}
    _check_effects(fields, values, owner)
    return values


def _check_effects(fields: Sequence[Field], values: Mapping[str, object], owner: str) -> None:
    """Refuse a value that would be ignored."""
    for field in (f for f in fields if values[f.name] != f.default):
        for other, allowed in (field.when or {}).items():
            if values.get(other, allowed[0]) not in allowed:
                option, found = f"--{field.name.replace('_', '-')}", other.replace("_", "-")
                raise BadConfig(
                    expected=f"{owner}.{field.name} only {field.effect}",
                    found=f"{option} {values[field.name]} with --{found} {values[other]}",
                    fix=f"Leave out {option}, which would change nothing, or change --{found}",
                )


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
