"""Messages between processes: JSON, with NumPy arrays as raw bytes behind it. No pickle."""

import json
import math
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from clgym.codec import Unpackable, pack, unpack
from clgym.errors import BadAnswer

__all__ = ["receive", "send"]


def send(connection: Connection, message: dict[str, Any]) -> None:
    """Write one message, whole or not at all; arrays may stand anywhere in it.

    Raises:
        BadAnswer: it holds something else than arrays and plain values.
    """
    arrays: list[np.ndarray] = []
    try:
        tree = pack(message, np.ndarray, arrays)
        if opaque := next((array.dtype for array in arrays if array.dtype.hasobject), None):
            raise Unpackable(f"an array of {opaque}")
        shapes = [{"dtype": array.dtype.str, "shape": array.shape} for array in arrays]
        header = json.dumps({"tree": tree, "arrays": shapes}).encode()
    except (Unpackable, ValueError) as error:
        raise BadAnswer(
            expected="numbers, texts, arrays, and lists and dicts of them",
            found=str(error),
            fix="Turn it into plain values, such as tensor.item() or tensor.tolist()",
        ) from None
    connection.send_bytes(header)
    for array in arrays:
        connection.send_bytes(np.ascontiguousarray(array).tobytes())


def receive(connection: Connection) -> dict[str, Any]:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
        BadAnswer: what arrived is no message.
    """
    try:
        header = json.loads(connection.recv_bytes())
        arrays = [_array(connection, facts["dtype"], facts["shape"]) for facts in header["arrays"]]
        message = unpack(header["tree"], arrays)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise _no_message(f"{type(error).__name__}: {error}") from None
    if not isinstance(message, dict):
        raise _no_message(f"a {type(message).__name__}")
    return message


def _array(connection: Connection, dtype: str, shape: list[int]) -> np.ndarray:
    """One array; no more is read than its header announces."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if kind.hasobject or any(side < 0 for side in shape):
        raise ValueError(f"an array of {dtype} {shape}")
    if size == 0:
        connection.recv_bytes()
        return np.empty(shape, kind)
    return np.frombuffer(connection.recv_bytes(size), dtype=kind).reshape(shape).copy()


def _no_message(found: str) -> BadAnswer:
    return BadAnswer(
        expected="a message of the other process",
        found=found[:200],
        fix="A plugin must not write to the learner's socket",
    )
