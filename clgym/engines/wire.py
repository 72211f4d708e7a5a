"""Messages between gym and learner: JSON, with NumPy arrays as raw bytes behind it. No pickle."""

import json
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

__all__ = ["receive", "send"]

_MARK = "$array"


def send(connection: Connection, message: dict[str, Any]) -> None:
    """Write one message; arrays may stand anywhere among its top-level values."""
    header: dict[str, Any] = {}
    arrays: list[np.ndarray] = []
    for key, value in message.items():
        if isinstance(value, np.ndarray):
            header[key] = {_MARK: len(arrays), "dtype": value.dtype.str, "shape": value.shape}
            arrays.append(np.ascontiguousarray(value))
        else:
            header[key] = value
    connection.send_bytes(json.dumps(header).encode())
    for array in arrays:
        connection.send_bytes(array.tobytes())


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
