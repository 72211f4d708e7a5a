"""Convert messages to plain data and back, with validation. No torch."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import rebuild_dataclass

from clgym.codec import Tree
from clgym.errors import BadAnswer
from clgym.messages._message import T
from clgym.messages.events import Event
from clgym.messages.replies import Reply
from clgym.messages.requests import Request

__all__ = [
    "build_checks",
    "parse_event",
    "parse_reply",
    "parse_request",
    "to_tree",
]

_LATE = ConfigDict(defer_build=True)
"""Configuration that builds validators at first use, since building all takes 40 ms."""
_REQUESTS: TypeAdapter[Request] = TypeAdapter(
    Annotated[Request, Field(discriminator="do")], config=_LATE
)
_EVENTS: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="kind")], config=_LATE
)


def to_tree(message: object) -> dict[str, Tree]:
    """A message, or another dataclass, as nested dicts and lists of plain values and arrays."""
    record: Any = message  # dataclasses have no common type
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def _plain(value: object) -> Tree:
    if dataclasses.is_dataclass(value):
        return to_tree(value)
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value)
        return {key: _plain(item) for key, item in items.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast(Sequence[object], value)]
    # The types of messages admit nothing else; values that a plugin adds are refused by name.
    return str(value) if isinstance(value, Path) else cast(Tree, value)


def parse_request(tree: Mapping[str, Tree]) -> Request:
    """Validate and return a request that arrived.

    Raises:
        BadAnswer: It is no valid request.
    """
    return _parsed(_REQUESTS, tree, "a request of the gym")


def parse_event(tree: Mapping[str, Tree]) -> Event:
    """Validate and return an event that arrived.

    Raises:
        BadAnswer: It is no valid event.
    """
    return _parsed(_EVENTS, tree, "an event of a run")


def parse_reply(kind: type[T], tree: Mapping[str, Tree]) -> T:
    """Validate and return a reply that arrived.

    Raises:
        BadAnswer: It is no valid reply of this kind.
    """
    return _parsed(_reply_adapter(kind), tree, f"a reply of the kind {kind.__name__}")


@functools.cache
def _reply_adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)


def build_checks() -> None:
    """Build the validators of all messages now, so that processes forked later have them."""
    for adapter in (_REQUESTS, _EVENTS):
        adapter.rebuild()
    for kind in get_args(Reply):
        rebuild_dataclass(kind)


def _parsed(adapter: TypeAdapter[T], tree: Mapping[str, Tree], expected: str) -> T:
    try:
        return adapter.validate_python(tree)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top"
        raise BadAnswer(
            expected=expected,
            found=f"{first['msg']} at {place}",
            fix="Run both sides with the same version of clgym, and do not write to the learner's "
            "socket in a plugin",
        ) from None
