"""States on disk and messages on the wire: what goes in comes out."""

import json
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from clgym.engines.wire import receive, send
from clgym.errors import BadOutput
from clgym.files import canonical_json
from clgym.learner.state import read_state, state_fingerprint, write_state

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
TREES = st.recursive(
    PLAIN, lambda t: st.lists(t) | st.tuples(t, t) | st.dictionaries(st.text() | st.integers(), t)
)


@given(TREES)
def test_plain_values_survive(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    path = tmp_path_factory.mktemp("state") / "s.safetensors"
    write_state(path, {"tree": tree})
    assert read_state(path) == {"tree": tree}


def test_tensors_survive_bit_for_bit_and_bytes_repeat(tmp_path: Path) -> None:
    shared = torch.randn(3, 4)
    state = {
        "half": torch.randn(5).half(),
        "alias": [shared, shared.t()],
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3),
        "nested": {1: {"empty": torch.zeros(0, 2)}},
    }
    first = write_state(tmp_path / "a", state)
    assert write_state(tmp_path / "b", state) == first
    back: Any = read_state(tmp_path / "a")
    assert torch.equal(back["alias"][1], shared.t()) and torch.equal(back["half"], state["half"])
    assert back["nested"][1]["empty"].shape == (0, 2) and back["scalar"].dtype == torch.int64


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (8,), (9, 5), (3, 1, 2, 3)])
def test_a_mask_takes_a_bit_an_entry(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.5
    write_state(tmp_path / "s", {"mask": mask, "other": mask.float()})
    back: Any = read_state(tmp_path / "s")
    assert back["mask"].dtype == torch.bool and torch.equal(back["mask"], mask)
    assert torch.equal(back["other"], mask.float())
    large = write_state(tmp_path / "large", {"mask": torch.ones(80_000, dtype=torch.bool)})
    assert len(large) < 11_000


def test_what_is_not_data_is_refused_by_place(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"a object at state\.a\[1\]"):
        write_state(tmp_path / "s", {"a": [1, object()]})
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("data", [b"", b"\x08", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_broken_state_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "s").write_bytes(data)
    with pytest.raises(BadOutput, match="a state file"):
        read_state(tmp_path / "s")


@settings(deadline=None)
@given(st.data())
def test_no_changed_state_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("state") / "s.safetensors"
    whole = write_state(path, {"weights": torch.arange(20.0), "step": 3, "name": "x"})
    place, cut = (data.draw(st.integers(0, len(whole) - 1)) for _ in range(2))
    flipped = bytes([whole[place] ^ data.draw(st.integers(1, 255))])
    changed = [whole[:place] + flipped + whole[place + 1 :], whole[:cut], whole + b"x"]
    for content in changed:
        path.write_bytes(content)
        with pytest.raises(BadOutput, match="a state file"):
            read_state(path)


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    tree = {"$dict": [["w", {"$tensor": "0"}], ["n", 3]]}
    save_file({"0": torch.arange(4)}, path, {"tree": json.dumps(tree)})
    back: Any = read_state(path)
    assert torch.equal(back["w"], torch.arange(4)) and back["n"] == 3


def test_a_file_that_holds_something_else_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "list.safetensors"
    save_file({"0": torch.arange(4)}, path, {"tree": json.dumps([{"$tensor": "0"}])})
    with pytest.raises(BadOutput, match="it holds a list"):
        read_state(path)


def test_messages_cross_the_wire() -> None:
    a, b = (Connection(s.detach()) for s in socket.socketpair())
    message = {
        "do": "x",
        "rows": np.arange(6).reshape(2, 3),
        "none": None,
        "f": np.array([0.5], dtype=np.float32),
    }
    send(a, message)
    got: Any = receive(b)
    assert got["do"] == "x" and got["none"] is None
    np.testing.assert_array_equal(got["rows"], message["rows"])
    assert got["f"].dtype == np.float32
    a.close()
    with pytest.raises(EOFError):
        receive(b)


@given(TREES)
def test_canonical_json_does_not_depend_on_key_order(tree: object) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {str(k): turned(v) for k, v in reversed(value.items())}
        return [turned(v) for v in value] if isinstance(value, (list, tuple)) else value

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value

    assert canonical_json(plain(tree)) == canonical_json(turned(tree))


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8])
@pytest.mark.parametrize("size", [0, 1, 7, 511, 4097, 100_003])
def test_a_fingerprint_tells_every_change_of_a_number(dtype: torch.dtype, size: int) -> None:
    values = torch.arange(size + 3).remainder(100).to(dtype)
    state = {"a": {"b": [values[3:], 1.5]}, "n": 3}  # a view that begins inside its storage
    first = state_fingerprint(state)
    again = {"a": {"b": [values[3:].clone(), 1.5]}, "n": 3}
    assert state_fingerprint(again) == first
    for place in {0, size // 2, size - 1} if size else set():
        changed = values[3:].clone()
        changed[place] += 1
        assert state_fingerprint({"a": {"b": [changed, 1.5]}, "n": 3}) != first
    assert state_fingerprint({"a": {"b": [values[3:], 1.5]}, "n": 4}) != first
    assert state_fingerprint({"a": {"c": [values[3:], 1.5]}, "n": 3}) != first
