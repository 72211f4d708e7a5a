"""Messages as plain data, and back, checked. No torch."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter

from clgym.codec import Tree
from clgym.errors import BadAnswer
from clgym.messages._message import T
from clgym.messages.events import Event
from clgym.messages.requests import Request

__all__ = [
    "parse_event",
    "parse_reply",
    "parse_request",
    "to_tree",
]

_LATE = ConfigDict(defer_build=True)
"""Message classes whose checks are built only when met, since building all takes 40 ms."""
_REQUESTS: TypeAdapter[Request] = TypeAdapter(
    Annotated[Request, Field(discriminator="do")], config=_LATE
)
_EVENTS: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="kind")], config=_LATE
)


def to_tree(message: object) -> dict[str, Tree]:
    """A message, or another dataclass, as nested dicts and lists of plain values and arrays."""
    record: Any = message  # a dataclass has no type of its own
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def _plain(value: object) -> Tree:
    if dataclasses.is_dataclass(value):
        return to_tree(value)
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value)
        return {key: _plain(item) for key, item in items.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast(Sequence[object], value)]
    # The types of messages admit nothing else; what a plugin adds, the wire refuses by name.
    return str(value) if isinstance(value, Path) else cast(Tree, value)


def parse_request(tree: Mapping[str, Tree]) -> Request:
    """Check and return a request as it arrived.

    Raises:
        BadAnswer: it is none.
    """
    return _parsed(_REQUESTS, tree, "a request of the gym")


def parse_event(tree: Mapping[str, Tree]) -> Event:
    """Check and return an event as it arrived.

    Raises:
        BadAnswer: it is none.
    """
    return _parsed(_EVENTS, tree, "an event of a run")


def parse_reply(kind: type[T], tree: Mapping[str, Tree]) -> T:
    """Check and return a reply as it arrived.

    Raises:
        BadAnswer: it is not of this kind.
    """
    return _parsed(TypeAdapter(kind), tree, f"a reply of the kind {kind.__name__}")


def _parsed(adapter: TypeAdapter[T], tree: Mapping[str, Tree], expected: str) -> T:
    try:
        return adapter.validate_python(tree)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        raise BadAnswer(
            expected=expected,
            found=f"{first['msg']} at {place}",
            fix="Both sides must run the same version of clgym; a plugin must not write to the "
            "learner's socket",
        ) from None
