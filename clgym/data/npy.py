"""NumPy files whose header is compared with the file's size before memory is allocated.

Mapped arrays may exceed memory: `release` returns pages that were read to the system.
"""

import ast
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

__all__ = ["NpyHeader", "RowReader", "RowSource", "check_header", "mapped", "release"]

RESIDENT = 256 * 2**20
"""Bytes of a mapped file that a process may hold at a time; smaller files are never released."""
_AROUND = 2 * 2**20
"""Bytes that Linux may map at once around a place that is read: a large page."""

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
        ValueError: It is no such file, holds Python objects, or differs in size from its header.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        check_header(file, path.stat().st_size)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (TypeError, EOFError, OverflowError) as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class NpyHeader:
    """Header of a ``.npy`` file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    """Whether numbers are stored with the first axis varying fastest (Fortran order)."""
    length: int
    """Length of the header in bytes, at which the first number starts."""


def check_header(file: BinaryIO, size: int) -> NpyHeader:
    """Compare the size that the header of a ``.npy`` file states with the bytes that follow it.

    Arrays of Python objects, whose size no header states, are left to NumPy, which refuses them.

    Args:
        file: File, open at its beginning.
        size: Size of the whole file in bytes.

    Raises:
        ValueError: It is no such file, or differs in size from its header.
    """
    try:
        major, minor = np.lib.format.read_magic(file)
        if major not in (1, 2, 3) or minor != 0:
            raise ValueError(f"version {major}.{minor} of the format")
        length = struct.unpack("<H" if major == 1 else "<I", file.read(2 if major == 1 else 4))[0]
        if length > _LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        fields = ast.literal_eval(file.read(length).decode("utf-8" if major == 3 else "latin1"))
        shape, dtype = fields["shape"], np.lib.format.descr_to_dtype(fields["descr"])
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"the shape {shape}")
        if type(fields["fortran_order"]) is not bool:
            raise ValueError("an order of axes that is neither true nor false")
        promised = math.prod(shape) * dtype.itemsize
    except _MALFORMED as error:
        raise ValueError(f"a header that cannot be read ({type(error).__name__})") from error
    if promised != size - file.tell() and not dtype.hasobject:
        raise ValueError(f"a header of {promised} bytes before {size - file.tell()} bytes")
    return NpyHeader(shape, dtype, fields["fortran_order"], file.tell())


def release(images: object) -> None:
    """Return the pages of a large mapped array to the system, which caches them while it has room.

    A process that reads a file through a map holds every page that it has read until another one
    needs the memory. Other arrays, and systems without this call, are not affected.
    """
    if (pages := _large_map(images)) is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _large_map(images: object) -> mmap.mmap | None:
    """The map of an array that may be released; None for all others."""
    if not isinstance(images, np.memmap) or images.mode != "r":
        return None
    pages: mmap.mmap | None = getattr(images, "_mmap", None)
    return pages if pages is not None and len(pages) > RESIDENT else None


class RowSource(Protocol):
    """An array, or an object that makes its rows when they are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...]."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the rows."""
        ...

    def __len__(self) -> int:
        """Count the rows."""
        ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """The rows of these numbers, [n, ...]."""
        ...


class RowReader:
    """Reader of an array's rows that regularly releases the pages of a large mapped array."""

    def __init__(self, array: RowSource) -> None:
        """Read from ``array``."""
        self._array, self._read = array, 0
        each = math.prod(array.shape[1:]) * array.dtype.itemsize
        self._most = max(1, RESIDENT // (each + _AROUND)) if _large_map(array) is not None else None

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the rows of these numbers (int64 [n]), [n, ...]."""
        if self._most is None:
            return self._array[rows]
        found = np.empty((len(rows), *self._array.shape[1:]), self._array.dtype)
        for start in range(0, len(rows), self._most):
            part = rows[start : start + self._most]
            found[start : start + len(part)] = self._array[part]
            self._read += len(part)
            if self._read >= self._most:
                release(self._array)
                self._read = 0
        return found
