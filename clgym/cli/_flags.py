"""Config fields as command-line options: ``--learning-rate X``, with help, default and range."""

import argparse
from collections.abc import Callable, Collection, Sequence
from typing import Any

from clgym.config import WRAPS, Field

__all__ = ["add_flags", "as_failures", "as_text", "given", "limits", "minutes"]

_ABSENT = object()
_METAVARS = {"int": "N", "float": "X", "str": "TEXT", "ints": "N", "floats": "X", WRAPS: "STRATEGY"}


def add_flags(
    parser: argparse.ArgumentParser,
    title: str,
    fields: Sequence[Field],
    owner: str,
    taken: Collection[str] = (),
    notes: dict[str, str] | None = None,
    aliases: Callable[[str], Sequence[str]] = lambda field: (),
) -> None:
    """Add an option for every field.

    Args:
        parser: Parser that gets the options.
        title: Heading of the group in the help.
        fields: Fields of a config.
        owner: ``strategy`` or ``scenario``: the key under which `given` finds the values, and the
            prefix of options whose plain name is taken.
        taken: Field names that have another meaning already.
        notes: Text that replaces the default's value in the help, by field name.
        aliases: Other names of a field's option, which come first in the help; see
            `clgym.cli._chain`.
    """
    group = parser.add_argument_group(title)
    for field in fields:
        plain = field.name.replace("_", "-")
        name = f"--{owner}.{plain}" if field.name in taken else f"--{plain}"
        others = [f"--{a.replace('_', '-')}" for a in aliases(field.name) if a not in taken]
        default = "required" if field.required else f"default: {as_text(field.default)}"
        default = (notes or {}).get(field.name) or default
        facts = "; ".join(part for part in (field.effect, limits(field), default) if part)
        help_text = f"{field.help} ({facts})".strip().replace("%", "%%")
        group.add_argument(
            *others,
            *(() if name in others or (others and "." not in field.name) else (name,)),
            dest=f"{owner}.{field.name}",
            default=argparse.SUPPRESS,
            help=help_text,
            **_shape(field),
        )


def _shape(field: Field) -> dict[str, Any]:  # keywords of argparse
    """Number of words that follow the option; the field itself checks their types."""
    if field.kind == "bool":
        return {"nargs": "?", "const": "true", "metavar": "false"}
    if field.kind == "choice":
        return {"metavar": "{" + ",".join(field.choices) + "}"}
    if field.kind in ("ints", "floats"):
        return {"nargs": "+", "metavar": _METAVARS[field.kind]}
    return {"metavar": _METAVARS[field.kind]}


def given(values: argparse.Namespace, owner: str, fields: Sequence[Field]) -> dict[str, object]:
    """User's values of an owner's fields, as text; ``none`` becomes None if allowed."""
    found: dict[str, object] = {}
    for field in fields:
        value = getattr(values, f"{owner}.{field.name}", _ABSENT)
        if value is _ABSENT:
            continue
        if isinstance(value, list) and len(value) == 1:
            value = value[0]  # 2,3,5 in one word
        found[field.name] = None if field.optional and value == "none" else value
    return found


def limits(field: Field) -> str:
    """Valid range of a field in words; empty if all values of its type are valid."""
    return f"{field.limits}, or none" if field.optional and field.limits else field.limits


def as_text(value: Any) -> str:
    """A config value as a user would type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return str(value)


def as_failures(failures: dict[str, str]) -> str:
    """Checks that a strategy is declared to fail, each with the reason."""
    return "; ".join(f"{check} ({reason})" for check, reason in failures.items())


def minutes(text: str) -> float:
    """Parse a positive number of minutes."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of minutes")
    return found
