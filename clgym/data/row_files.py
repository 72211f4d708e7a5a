"""Arrays as read-only ``.npy`` files of a cache, written chunk by chunk and only as a whole."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clgym.data.cache import filling_cache
from clgym.data.digests import rows_a_chunk
from clgym.data.npy import RowReader, RowSource, mapped, release
from clgym.files import clear_parts, write_whole

__all__ = ["keep_rows", "write_file", "write_header"]

_READABLE = 0o444


def keep_rows(path: Path, array: RowSource, rows: np.ndarray | None = None) -> None:
    """Write ``array[rows]`` to a file, unless the file holds these rows already.

    Args:
        path: Path of the file.
        array: Array whose rows are chosen.
        rows: int64 [n], row numbers; None: all.

    Raises:
        BadOutput: The cache cannot be written.
    """
    rows = np.arange(len(array)) if rows is None else rows
    shape, reader = (len(rows), *array.shape[1:]), RowReader(array)
    step = rows_a_chunk(shape)
    parts = [slice(start, start + step) for start in range(0, len(rows), step)]
    if _holds(path, shape, array.dtype, ((part, reader[rows[part]]) for part in parts)):
        return

    def fill(file: BinaryIO) -> None:
        write_header(file, shape, array.dtype)
        for part in parts:
            file.write(np.ascontiguousarray(reader[rows[part]]).data)

    write_file(path, fill)


def _holds(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    parts: Iterable[tuple[slice, np.ndarray]],
) -> bool:
    """Whether a file holds an array of that shape and type, made of these parts."""
    try:
        there = mapped(path)
    except (OSError, ValueError):
        return False
    if there.dtype != dtype or there.shape != shape:
        return False
    for part, wanted in parts:
        if not np.array_equal(there[part], wanted):
            return False
        release(there)
    return True


def write_header(file: BinaryIO, shape: Sequence[int], dtype: np.dtype) -> None:
    """Write the header of a ``.npy`` file of this shape and type."""
    descr = np.lib.format.dtype_to_descr(dtype)
    fields = {"descr": descr, "fortran_order": False, "shape": tuple(int(n) for n in shape)}
    np.lib.format.write_array_header_1_0(file, fields)


def write_file(path: Path, fill: Callable[[BinaryIO], Any]) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it.

    The file is written, not mapped: on a full disk a map ends in SIGBUS, a write in an error.

    Args:
        path: Path of the file.
        fill: Function that writes the content.

    Raises:
        BadOutput: The cache cannot be written.
    """
    with filling_cache(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_parts(path.parent)
        with write_whole(path) as file:
            fill(file)
            os.fchmod(file.fileno(), _READABLE)
