"""Messages between gym and learner: JSON, with NumPy arrays as raw bytes behind it. No pickle."""

import json
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from clgym.errors import BadAnswer

__all__ = ["receive", "send"]

_MARK = "$array"
_DEPTH = 50
"""Of nesting to search: what contains itself has no end."""


def send(connection: Connection, message: dict[str, Any]) -> None:
    """Write one message, whole or not at all; arrays may stand among its top-level values.

    Raises:
        BadAnswer: it holds something else than arrays and JSON's values.
    """
    header: dict[str, Any] = {}
    arrays: list[np.ndarray] = []
    for key, value in message.items():
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            header[key] = {_MARK: len(arrays), "dtype": value.dtype.str, "shape": value.shape}
            arrays.append(np.ascontiguousarray(value))
        else:
            header[key] = value
    try:
        text = json.dumps(header)
    except (TypeError, ValueError, RecursionError):
        raise BadAnswer(
            expected="numbers, texts, and lists and dicts of them",
            found=_culprit(header) or "values that contain themselves",
            fix="Turn it into plain values, such as tensor.item() or tensor.tolist()",
        ) from None
    connection.send_bytes(text.encode())
    for array in arrays:
        connection.send_bytes(array.tobytes())


def _culprit(value: Any, place: str = "", depth: int = 0) -> str | None:
    """The first thing that JSON has no word for, and where it is."""
    if value is None or isinstance(value, (bool, int, float, str)) or depth > _DEPTH:
        return None
    if isinstance(value, (list, tuple)):
        inside = [(f"{place}[{i}]", item) for i, item in enumerate(value)]
    elif isinstance(value, dict):
        bad = [k for k in value if not (k is None or isinstance(k, (bool, int, float, str)))]
        if bad:
            return f"a {type(bad[0]).__name__} as a key of {place}"
        inside = [(f"{place}.{key}".lstrip("."), item) for key, item in value.items()]
    else:
        return f"a {type(value).__name__} at {place}"
    return next(filter(None, (_culprit(item, at, depth + 1) for at, item in inside)), None)


def receive(connection: Connection) -> dict[str, Any]:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
    """
    message: dict[str, Any] = json.loads(connection.recv_bytes())
    for key, value in message.items():
        if isinstance(value, dict) and _MARK in value:
            data = np.frombuffer(connection.recv_bytes(), dtype=np.dtype(value["dtype"]))
            message[key] = data.reshape(value["shape"]).copy()
    return message
