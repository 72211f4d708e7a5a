"""Jobs of a pool: what a coordinator sends is what a worker gets."""

import dataclasses
import types
import typing
from multiprocessing import Pipe
from pathlib import Path

import pytest

from clgym.engines.wire import receive, send
from clgym.gym.request import Request
from clgym.protocol.jobs import _request, as_message

HINTS = typing.get_type_hints(Request)


def _other(name: str, hint: object) -> object:
    """A value of a field that is not its default."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return parts[-1]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _other(name, next(part for part in parts if part is not type(None)))
    if typing.get_origin(hint) is tuple:
        return (Path("a.py"), Path("b.py")) if parts[0] is Path else (1, 3)
    known = {Path: Path("/a/folder"), str: "word", int: 7, float: 2.5, bool: True}
    return known[hint] if isinstance(hint, type) and hint in known else {"lr": 0.5, "n": [1, 2]}


@pytest.mark.parametrize("field", dataclasses.fields(Request), ids=lambda field: field.name)
def test_every_field_of_a_request_arrives(field: dataclasses.Field) -> None:
    plain: dict[str, typing.Any] = {"strategy": "nmc", "scenario": "split-digits", "device": "cpu"}
    plain[field.name] = _other(field.name, HINTS[field.name])
    request = Request(**plain)
    one, other = Pipe()
    send(one, as_message(request, [], keep_state=False))
    arrived = receive(other)
    assert _request({**arrived, "device": request.device}) == request
