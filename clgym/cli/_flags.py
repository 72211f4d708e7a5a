"""Config fields as flags: ``--learning-rate X``, with help, default and range."""

import argparse
from collections.abc import Collection, Sequence
from typing import Any

from clgym.config import WRAPS, Field, Range

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
) -> None:
    """Add a flag for every field.

    Args:
        parser: Where to.
        title: Heading of the group in the help.
        fields: Of a config.
        owner: ``strategy`` or ``scenario``: where `given` finds the values again, and the prefix of
            flags whose plain name is taken.
        taken: Field names that mean something else already.
        notes: By field name, what to say of the default instead of its value.
    """
    group = parser.add_argument_group(title)
    for field in fields:
        plain = field.name.replace("_", "-")
        name = f"--{owner}.{plain}" if field.name in taken else f"--{plain}"
        default = "required" if field.required else f"default {as_text(field.default)}"
        default = (notes or {}).get(field.name) or default
        facts = "; ".join(part for part in (limits(field), default) if part)
        help_text = f"{field.help} ({facts})".strip().replace("%", "%%")
        group.add_argument(
            name,
            dest=f"{owner}.{field.name}",
            default=argparse.SUPPRESS,
            help=help_text,
            **_shape(field),
        )


def _shape(field: Field) -> dict[str, Any]:
    """How many words follow the flag. Their types are the field's own business."""
    if field.kind == "bool":
        return {"nargs": "?", "const": "true", "metavar": "false"}
    if field.kind == "choice":
        return {"metavar": "{" + ",".join(field.choices) + "}"}
    if field.kind in ("ints", "floats"):
        return {"nargs": "+", "metavar": _METAVARS[field.kind]}
    return {"metavar": _METAVARS[field.kind]}


def given(values: argparse.Namespace, owner: str, fields: Sequence[Field]) -> dict[str, Any]:
    """What the user gave for an owner's fields, as text; ``none`` is None where that is allowed."""
    found: dict[str, Any] = {}
    for field in fields:
        value = getattr(values, f"{owner}.{field.name}", _ABSENT)
        if value is _ABSENT:
            continue
        if isinstance(value, list) and len(value) == 1:
            value = value[0]  # 2,3,5 in one word
        found[field.name] = None if field.optional and value == "none" else value
    return found


def limits(field: Field) -> str:
    """The values that a field takes, in words; nothing where all do."""
    if field.kind == "choice":
        return ""
    bounds = Range(field.low, field.high, field.exclusive)
    words = "" if bounds == Range() else str(bounds)
    return f"{words}, or none".lstrip(", ") if field.optional and words else words


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
    """Checks that a strategy declares to fail, each with the reason."""
    return "; ".join(f"{check} ({reason})" for check, reason in failures.items())


def minutes(text: str) -> float:
    """A time above 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return found
