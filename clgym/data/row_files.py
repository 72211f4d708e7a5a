"""Arrays as read-only ``.npy`` files of a cache, written chunk by chunk and never half."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from clgym.data.cache import filling_cache
from clgym.data.digests import rows_a_chunk
from clgym.data.npy import mapped
from clgym.files import clear_parts, write_whole

__all__ = ["keep_rows", "write_file", "write_header"]

_READABLE = 0o444


class RowSource(Protocol):
    """An array, or what makes its rows when they are asked for."""

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
        """Those rows."""
        ...


def keep_rows(path: Path, array: RowSource, rows: np.ndarray | None = None) -> None:
    """Write ``array[rows]`` unless it is there already: the folder is named by its content.

    Args:
        path: The file.
        array: Rows to choose from.
        rows: int64 [n]; None: all.

    Raises:
        BadOutput: the cache cannot be written.
    """
    rows = np.arange(len(array)) if rows is None else rows
    shape = (len(rows), *array.shape[1:])
    step = rows_a_chunk(shape)
    if _holds(path, array, rows, step):
        return

    def fill(file: BinaryIO) -> None:
        write_header(file, shape, array.dtype)
        for start in range(0, len(rows), step):
            file.write(np.ascontiguousarray(array[rows[start : start + step]]).data)

    write_file(path, fill)


def _holds(path: Path, array: RowSource, rows: np.ndarray, step: int) -> bool:
    """Whether a file holds ``array[rows]``."""
    try:
        there = mapped(path)
    except (OSError, ValueError):
        return False
    return (
        there.dtype == array.dtype
        and there.shape == (len(rows), *array.shape[1:])
        and all(
            np.array_equal(there[start : start + step], array[rows[start : start + step]])
            for start in range(0, len(rows), step)
        )
    )


def write_header(file: BinaryIO, shape: Sequence[int], dtype: np.dtype) -> None:
    """Begin a ``.npy`` file."""
    descr = np.lib.format.dtype_to_descr(dtype)
    fields = {"descr": descr, "fortran_order": False, "shape": tuple(int(n) for n in shape)}
    np.lib.format.write_array_header_1_0(file, fields)


def write_file(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Write to a temporary name, flush to the disk, rename.

    Plain writes, not a writable map: on a full disk a map ends in SIGBUS, a write in an error.

    Raises:
        BadOutput: the cache cannot be written.
    """
    with filling_cache(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_parts(path.parent)
        with write_whole(path) as file:
            fill(file)
            os.fchmod(file.fileno(), _READABLE)
