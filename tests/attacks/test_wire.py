"""Raw bytes on the socket, surplus and forged replies, tensors that lie."""

import json
import socket
import struct
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from clgym.engines.answer import error_in
from clgym.engines.wire import receive
from clgym.errors import BadAnswer, ClgymError, StrategyFailed
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.replies import checked_logits
from factories import copy_plugin, load_plugin


@pytest.mark.parametrize("name", load_plugin("writer").BYTES)
def test_what_is_written_to_the_socket_is_named(name: str, tmp_path: Path) -> None:
    plugin = copy_plugin("writer", tmp_path, ACT=name)
    request = Request("writer", "split-digits", out=tmp_path / "run", threads=1, plugins=(plugin,))
    with pytest.raises(BadAnswer, match="socket"):
        run(request)
    assert not (tmp_path / "run" / "record.json").exists()


def test_a_reply_before_its_time_is_not_the_next_answer(tmp_path: Path) -> None:
    """A forged reply to the present question leaves the true one over: the run ends there."""
    plugin = copy_plugin("writer", tmp_path, ACT="a forged reply")
    request = Request("writer", "split-digits", out=tmp_path / "run", threads=1, plugins=(plugin,))
    with pytest.raises(BadAnswer):
        run(request)
    following = replace(request, strategy="nmc", plugins=(), out=tmp_path / "next")
    assert run(following).result.last_accuracy == pytest.approx(0.9)


def test_half_a_message_is_waited_for_until_time_is_up(tmp_path: Path) -> None:
    plugin = copy_plugin("writer", tmp_path, ACT="half a message")
    request = Request("writer", "split-digits", out=tmp_path / "run", threads=1, plugins=(plugin,))
    with pytest.raises(StrategyFailed, match="--timeout"):
        run(replace(request, timeout_minutes=1 / 600))


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!i", -1) + struct.pack("!Q", 2**31),
        struct.pack("!i", -1) + struct.pack("!Q", 2**63),
        struct.pack("!i", 2**27),
    ],
)
def test_a_length_is_refused_before_memory_is_asked_for(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(BadAnswer, match="at most"):
        theirs.sendall(sent)
        receive(Connection(ours.detach()))


def test_an_announced_array_costs_nothing_until_it_comes() -> None:
    ours, theirs = socket.socketpair()
    text = json.dumps({"tree": {}, "arrays": [{"dtype": "|u1", "shape": [2**30]}]}).encode()
    theirs.sendall(struct.pack("!i", len(text)) + text + struct.pack("!i", 2**30) + b"12")
    theirs.close()
    with pytest.raises(EOFError):
        receive(Connection(ours.detach()))


@pytest.mark.parametrize("kind", ["near", "difflib", "ClgymError", "no such", "__name__"])
def test_errors_that_arrive_are_errors_of_clgym(kind: str) -> None:
    parts = {"expected": "a", "found": "b", "fix": "c"}
    assert isinstance(error_in({"error": {"type": kind, **parts}}), ClgymError)


class LyingShape(torch.Tensor):
    @property
    def shape(self):  # type: ignore[override]
        return torch.Size((4, 2))


class LyingFunctions(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.zeros(4, 2)


class LyingMethods(torch.Tensor):
    def detach(self):
        return torch.zeros(4, 2)

    def amax(self, *args, **kwargs):
        return torch.zeros(4)

    def is_complex(self):
        return False


class LyingClass:
    shape = (4, 2)

    @property
    def __class__(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.Tensor


@pytest.mark.parametrize("kind", [LyingShape, LyingFunctions, LyingMethods])
def test_a_tensor_that_lies_is_taken_for_what_it_holds(kind: type[torch.Tensor]) -> None:
    with pytest.raises(BadAnswer, match=r"\(1, 2\)"):
        checked_logits(torch.ones(1, 2).as_subclass(kind), "predict", 4, 2)
    nan = torch.full((4, 2), float("nan")).as_subclass(kind)
    with pytest.raises(BadAnswer, match="NaN"):
        checked_logits(nan, "predict", 4, 2)
    honest = checked_logits(torch.ones(4, 2).as_subclass(kind), "predict", 4, 2)
    np.testing.assert_array_equal(honest, np.ones((4, 2), np.float32))
    assert type(honest) is np.ndarray


def test_an_object_that_imitates_a_tensor_is_refused() -> None:
    with pytest.raises(BadAnswer, match="a LyingClass"):
        checked_logits(LyingClass(), "predict", 4, 2)
