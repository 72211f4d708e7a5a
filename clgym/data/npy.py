"""NumPy files whose header is compared with the file's size before memory is allocated."""

import ast
import math
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["check_header", "mapped"]

_LONGEST_HEADER = 10_000
"""Maximum size of a header in bytes: NumPy's own limit for untrusted files."""

_MALFORMED = (
    struct.error,
    SyntaxError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""Exceptions that NumPy and Python raise on malformed headers, besides ValueError."""


def mapped(path: Path) -> np.ndarray:
    """Map the array of a ``.npy`` file, read-only.

    Raises:
        ValueError: it is no such file, holds Python objects, or has not the size it promises.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        check_header(file, path.stat().st_size)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (TypeError, EOFError, OverflowError) as error:
        raise ValueError(str(error)) from error


def check_header(file: BinaryIO, size: int) -> None:
    """Compare what the header of a ``.npy`` file promises with the bytes that follow it.

    Python objects, whose size no header tells, are left to NumPy, which refuses them.

    Args:
        file: Open at its beginning.
        size: Bytes of the whole file.

    Raises:
        ValueError: it is no such file, or has not the size it promises.
    """
    try:
        major, _ = np.lib.format.read_magic(file)
        length = struct.unpack("<H" if major == 1 else "<I", file.read(2 if major == 1 else 4))[0]
        if length > _LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        fields = ast.literal_eval(file.read(length).decode("utf-8" if major == 3 else "latin1"))
        shape, dtype = fields["shape"], np.lib.format.descr_to_dtype(fields["descr"])
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"the shape {shape}")
        promised = math.prod(shape) * dtype.itemsize
    except _MALFORMED as error:
        raise ValueError(f"a header that cannot be read ({type(error).__name__})") from error
    if dtype.hasobject:
        return
    if promised != size - file.tell():
        raise ValueError(f"a header of {promised} bytes before {size - file.tell()} bytes")
