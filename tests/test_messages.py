"""What the two sides say to each other survives the wire, and nothing else gets through."""

import dataclasses
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym import messages
from clgym.codec import Unpackable, pack, unpack
from clgym.engines.wire import receive, send
from clgym.errors import BadAnswer
from clgym.messages import (
    Adapted,
    DueFiles,
    Event,
    Predict,
    Predicted,
    Request,
    RowGroup,
    Saved,
    Scored,
    StreamFacts,
    Train,
    TrainProgress,
    parse_event,
    parse_reply,
    parse_request,
    to_tree,
)

PREDICT = Predict(
    rows=np.arange(3),
    where=np.zeros(3, np.int64),
    groups=(RowGroup(source=0, split="test", transform=("rotate", 30.0)),),
    task=None,
    num_seen_classes=4,
    batch_size=2,
)
TRAIN = Train(
    index=1,
    due=DueFiles(images=(Path("images.npy"),), features=None),
    labels=np.array([0, 1, 1, 0]),
    groups=(RowGroup(source=0, split="train", transform=None),),
    counts=(4,),
    classes=(0, 1),
    num_seen_classes=2,
    task=0,
    task_columns=((0, 1),),
    checkpoint=Path("inside.safetensors"),
    checkpoint_seconds=60.0,
    resume=None,
)
SCORED = Scored(experience=0, experiences=2, row=[0.5, None], accuracy=0.5, images=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


def across(tree: dict[str, Any]) -> dict[str, Any]:
    a, b = (Connection(s.detach()) for s in socket.socketpair())
    send(a, tree)
    return receive(b)


def same(one: Any, other: Any) -> bool:
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(
            same(getattr(one, n), getattr(other, n)) for n in names
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


@pytest.mark.parametrize("request_", [PREDICT, TRAIN])
def test_a_request_arrives_as_it_was_sent(request_: Request) -> None:
    assert same(parse_request(across(to_tree(request_))), request_)


@pytest.mark.parametrize("event", [SCORED, TrainProgress(experience=0, step=1, steps=2)])
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    assert same(parse_event(across(to_tree(event))), event)


@pytest.mark.parametrize(("union", "tag"), [(Request, "do"), (Event, "kind")])
def test_every_message_has_a_tag_of_its_own(union: Any, tag: str) -> None:
    kinds = get_args(union)
    fields = [f for kind in kinds for f in dataclasses.fields(kind) if f.name == tag]
    tags = {get_args(field.type) for field in fields}
    assert len(tags) == len(fields) == len(kinds)


LOGITS = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("kind", "tree"),
    [
        (Predicted, {"logits": LOGITS}),
        (Predicted, {"logits": LOGITS.astype(np.float64), "seconds": 0.1}),
        (Predicted, {"logits": LOGITS[0], "seconds": 0.1}),
        (Predicted, {"logits": [[0.0, 1.0]], "seconds": 0.1}),
        (Predicted, {"logits": LOGITS, "seconds": "soon"}),
        (Predicted, {"logits": LOGITS, "seconds": 0.1, "label": 3}),
        (Adapted, {"logits": LOGITS, "seconds": 0.1, "forward": 1.5, "backward": 0}),
        (Saved, {"bytes": 1, "holdings": None, "stored_samples": 0, "own_costs": {}}),
        (Saved, {}),
    ],
)
def test_a_malformed_reply_is_named(kind: type, tree: dict[str, Any]) -> None:
    with pytest.raises(BadAnswer, match=f"a reply of the kind {kind.__name__}"):
        parse_reply(kind, tree)


@pytest.mark.parametrize(
    "tree",
    [{}, {"do": "shutdown"}, {"do": "save"}, {"do": "save", "path": "x", "also": 1}, {"do": []}],
)
def test_a_malformed_request_is_named(tree: dict[str, Any]) -> None:
    with pytest.raises(BadAnswer, match="a request of the gym"):
        parse_request(tree)


def test_a_message_cannot_be_changed_after_it_was_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCORED.accuracy = 1.0  # type: ignore[misc]


def test_no_reply_and_no_event_has_room_for_a_label() -> None:
    """Labels go one way, to training; what comes back is logits, sizes and progress."""
    fields = {
        (name, field.name)
        for name in messages.__all__
        if dataclasses.is_dataclass(cls := getattr(messages, name))
        for field in dataclasses.fields(cls)
        if "label" in field.name
    }
    given = {("Train", "labels"), ("ExperienceRows", "labels"), ("AdaptationStart", "home_labels")}
    assert fields == given


@given(PLAIN)
def test_the_codec_gives_back_what_it_was_given(value: Any) -> None:
    leaves: list[Any] = []
    assert unpack(pack(value, np.ndarray, leaves), leaves) == value
    assert leaves == []


def test_arrays_may_stand_anywhere() -> None:
    message = {"a": [np.arange(2), {"b": np.ones((1, 2), np.float32)}], "c": np.zeros((0, 3))}
    got = across(message)
    np.testing.assert_array_equal(got["a"][0], [0, 1])
    assert got["a"][1]["b"].dtype == np.float32 and got["c"].shape == (0, 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [({"a": {1}}, "a set at a"), ({"a": [object()]}, r"a object at a\[0\]"), (object, "a type")],
)
def test_unsupported_values_are_refused_with_their_place(value: Any, words: str) -> None:
    with pytest.raises(Unpackable, match=words):
        pack(value, np.ndarray, [])


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"tree": 1, "arrays": []}',
        b'{"tree": {"$tensor": "0"}, "arrays": []}',
        b'{"tree": {"$dict": []}, "arrays": [{"dtype": "|O", "shape": [1]}]}',
        b'{"tree": {"$dict": []}, "arrays": [{"dtype": "<f8", "shape": [-1]}]}',
        b'{"tree": {"$dict": []}, "arrays": [{"dtype": "nonsense", "shape": [1]}]}',
        b'{"tree": {"$dict": [[1]]}, "arrays": []}',
    ],
)
def test_malformed_messages_are_refused(header: bytes) -> None:
    a, b = (Connection(s.detach()) for s in socket.socketpair())
    a.send_bytes(header)
    with pytest.raises(BadAnswer, match="a message of the other process"):
        receive(b)


def test_facts_of_a_stream_are_checked_when_they_are_made() -> None:
    facts = {"image_shape": (1, 2, 2), "device": "cpu", "seed": 0, "mean": (), "std": ()}
    more = {"total_columns": None, "single_pass": False}
    assert StreamFacts(**facts, **more, setting="adaptation").seed == 0
    with pytest.raises(ValueError, match="setting"):
        StreamFacts(**facts, **more, setting="something")  # type: ignore[arg-type]
