"""Messages between processes: JSON, followed by NumPy arrays as raw bytes. No pickle."""

import json
import math
import os
import struct
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from clgym.codec import Unpackable, pack, unpack
from clgym.engines.channel import Message
from clgym.errors import BadAnswer

__all__ = ["FORK", "receive", "send"]

FORK = b"\xff"
"""Byte that asks a fork server for a worker; any other is the number of a library to import."""

_MOST_TEXT = 64 * 2**20
"""Maximum size in bytes of a message without its arrays; larger ones are refused before memory is
allocated."""
_MOST_ARRAY = 2**30
"""Maximum size of an array in bytes."""
_CHUNK = 2**20


def send(connection: Connection, message: Message) -> None:
    """Write one message, which may contain arrays at any place, completely or not at all.

    Raises:
        BadAnswer: It contains something other than arrays and plain values.
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
            fix="Convert it to plain values, such as tensor.item() or tensor.tolist()",
        ) from None
    connection.send_bytes(header)
    for array in arrays:
        connection.send_bytes(np.ascontiguousarray(array).tobytes())


def receive(connection: Connection, wait: Callable[[], object] = lambda: None) -> Message:
    """Read one message.

    Args:
        connection: Connection to read from.
        wait: Called before every read; its exceptions end the reading.

    Raises:
        EOFError: The other side has ended.
        BadAnswer: What arrived is no message.
    """
    try:
        header = json.loads(_frame(connection, _MOST_TEXT, wait))
        arrays = [_array(connection, a["dtype"], a["shape"], wait) for a in header["arrays"]]
        message = unpack(header["tree"], arrays)
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError) as error:
        raise _no_message(f"{type(error).__name__}: {error}") from None
    if not isinstance(message, dict):
        raise _no_message(f"a {type(message).__name__}")
    return message


def _array(
    connection: Connection, dtype: str, shape: list[int], wait: Callable[[], object]
) -> np.ndarray:
    """Read one array, but no more than its header announces."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if kind.hasobject or any(side < 0 for side in shape) or size > _MOST_ARRAY:
        raise ValueError(f"an array of {dtype} {shape}")
    data = _frame(connection, size, wait)
    return np.empty(shape, kind) if size == 0 else np.frombuffer(data, kind).reshape(shape)


def _frame(connection: Connection, most: int, wait: Callable[[], object]) -> bytearray:
    """Read the bytes of one `Connection.send_bytes` as they arrive.

    Memory is allocated for bytes that have arrived, not for those that were announced.
    """
    (size,) = struct.unpack("!i", _exactly(connection, 4, wait))
    if size == -1:
        (size,) = struct.unpack("!Q", _exactly(connection, 8, wait))
    if not 0 <= size <= most:
        raise ValueError(f"{size} bytes instead of at most {most}")
    return _exactly(connection, size, wait)


def _exactly(connection: Connection, count: int, wait: Callable[[], object]) -> bytearray:
    data = bytearray()
    while len(data) < count:
        wait()
        part = os.read(connection.fileno(), min(_CHUNK, count - len(data)))
        if not part:
            raise EOFError
        data += part
    return data


def _no_message(found: str) -> BadAnswer:
    return BadAnswer(
        expected="a message of the other process",
        found=found[:200],
        fix="Do not write to the learner's socket in a plugin",
    )
