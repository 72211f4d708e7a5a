"""Tables of vectors on disk, one row per image of a split, filled step by step, without torch.

    features/KEY/facts.json   identity of the vectors; KEY is the hash of these facts
    features/KEY/values.npy   float32 [N, d], a sparse file at first
    features/KEY/marks.npy    uint64 [N], checksum of each row that has been written; else 0

Writers need no lock: all writers of a row write the same vector, and its mark afterwards. On its
first use in a process a vector is compared with its mark; a vector that differs counts as missing,
is computed again, and is mentioned in the log.

Another process may delete a table, or make it anew, at any time. A table that is open keeps its
files, which it reads and writes by the descriptors with which it opened them.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clgym._moved import report_renamed
from clgym.data.cache import cache_dir, filling_cache
from clgym.data.npy import check_header, mapped
from clgym.data.row_files import write_header
from clgym.errors import BadAnswer, BadOutput
from clgym.files import (
    canonical_json,
    clear_parts,
    locked,
    part_name,
    sha256,
    write_atomic,
    write_whole,
)

__all__ = ["VectorSlot", "Table", "clean", "entries"]

report_renamed(__name__)

LIMIT_GB = 20.0
"""Maximum size of all tables together in gigabytes, unless ``CLGYM_CACHE_GB`` sets another one."""
_VALUES, _MARKS, _FACTS = "values.npy", "marks.npy", "facts.json"
_log = logging.getLogger(__name__)


def _root() -> Path:
    return cache_dir() / "features"


class Table:
    """The vectors of one split; several processes may read and fill it at once."""

    def __init__(self, facts: Mapping[str, Any], rows: int, width: int) -> None:
        """Open or make the table with these facts: ``rows`` vectors of ``width`` numbers.

        Raises:
            BadOutput: The cache cannot be written.
        """
        self._facts = {**facts, "rows": rows, "width": width}
        self.folder = _root() / sha256(canonical_json(self._facts))
        self._open()

    def _open(self) -> None:
        """Open the table's files, made anew if they are missing or damaged.

        Raises:
            BadOutput: The cache cannot be written.
        """
        with filling_cache(self.folder, ValueError):
            while (files := _opened(self.folder, self._facts)) is None:
                _make_table(self.folder, self._facts)
            with contextlib.suppress(PermissionError, FileNotFoundError):  # read only, or deleted
                os.utime(self.folder / _FACTS)  # the time of the last use
        self._values, self._marks = files
        self._verified = np.zeros(self._facts["rows"], dtype=bool)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Rows among ``rows``, int64 [n], that are not filled or are damaged; ascending, unique."""
        rows = np.unique(rows)
        damaged = self._verify(rows)
        if len(damaged):
            _log.warning(
                "%d cached features are damaged, computed anew: %s", len(damaged), self.folder
            )
        return np.union1d(rows[self._marks.array[rows] == 0], damaged)

    def get(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of the rows, float32 [n, d].

        Raises:
            BadOutput: A row is missing, or differs from what was written.
        """
        if not self._marks.array[rows].all():
            self._open()  # the process that filled them found the table deleted
        missing = int((self._marks.array[rows] == 0).sum())
        if missing or len(self._verify(np.unique(rows))):
            raise BadOutput(
                expected=f"cached features in {self.folder} as they were written",
                found=f"{missing} rows without features" if missing else "different content",
                fix="Give the command again; `clgym cache clean` deletes them",
            )
        return self._values.array[rows]

    def _verify(self, rows: np.ndarray) -> np.ndarray:
        """Compare marked rows with their marks, once in a process; return the rows that differ."""
        due = rows[(self._marks.array[rows] != 0) & ~self._verified[rows]]
        good = _marks(due, self._values.array) == self._marks.array[due]
        self._verified[due[good]] = True
        return due[~good]

    def put(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Fill rows: the vectors reach the disk before the marks do.

        The file is written, not mapped: on a full disk a map ends in SIGBUS, a write in an error.

        Args:
            rows: int64 [n], row numbers.
            vectors: float [n, d].

        Raises:
            BadOutput: The cache cannot be written.
            BadAnswer: Number or width of the vectors differs from the rows or from the table.
        """
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        width = self._facts["width"]
        if vectors.shape != (len(rows), width):
            raise BadAnswer(
                expected=f"{len(rows)} vectors of {width} numbers",
                found=f"an array of {vectors.shape}",
                fix="Report this as a bug: a network declared a wrong width for its features",
            )
        with filling_cache(self.folder, ValueError):
            self._values.write(rows, vectors)
            self._marks.write(rows, _marks(rows, vectors, own=True))


class _File:
    """A ``.npy`` file, mapped and written by one descriptor, and so the same file for both."""

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        """Open the file, if possible for writing too.

        Raises:
            ValueError: It is no such file, or holds another type or number of rows.
            OSError: It cannot be opened.
        """
        try:
            self._file: BinaryIO = path.open("r+b")
        except PermissionError:  # a process that may only read
            self._file = path.open("rb")
        header = check_header(self._file, os.fstat(self._file.fileno()).st_size)
        if (header.dtype, header.shape, header.fortran) != (np.dtype(dtype), shape, False):
            raise ValueError(f"{header.dtype} {header.shape}")
        self._offset = header.length
        self.array: np.ndarray = np.memmap(self._file, dtype, "r", self._offset, shape)

    def is_at(self, path: Path) -> bool:
        """Whether it is the file that other processes would open now."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write rows to the disk, where a full one is an error; in a map it is a signal."""
        step, file = values[0].nbytes, self._file.fileno()
        for row, value in zip(rows.tolist(), values, strict=True):
            os.pwrite(file, value.tobytes(), self._offset + row * step)
        os.fsync(file)


def _opened(folder: Path, facts: Mapping[str, Any]) -> tuple[_File, _File] | None:
    """The files of values and marks, if the folder holds the table of these facts.

    Both are of one table: neither was replaced while the other one was opened.
    """
    rows, width = facts["rows"], facts["width"]
    try:
        values = _File(folder / _VALUES, "<f4", (rows, width))
        marks = _File(folder / _MARKS, "<u8", (rows,))
        note = (folder / _FACTS).read_bytes()
    except (FileNotFoundError, ValueError):
        return None
    there = values.is_at(folder / _VALUES) and marks.is_at(folder / _MARKS)
    return (values, marks) if there and note == canonical_json(facts) else None


def _marks(rows: np.ndarray, vectors: np.ndarray, own: bool = False) -> np.ndarray:
    """The checksum of each row, uint64 [n], never 0.

    Args:
        rows: int64 [n].
        vectors: float32: the vector of every row, or (``own``) of these rows only.
        own: Whether ``vectors`` contains only these rows.
    """
    found = np.empty(len(rows), dtype="<u8")
    for place, row in enumerate(rows.tolist()):
        state = hashlib.sha256(row.to_bytes(8, "little"))
        state.update(vectors[place if own else row].data)
        found[place] = int.from_bytes(state.digest()[:8], "little") | 1
    return found


def _make_table(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make an empty table, unless another process has made it."""
    rows, width = facts["rows"], facts["width"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / ".lock", wait=True):
        if _opened(folder, facts) is not None:
            return
        if (folder / _FACTS).exists():
            _log.warning("cached features are damaged, computed anew: %s", folder)
        make_room(rows * width * 4)
        folder.mkdir(exist_ok=True)
        clear_parts(folder)
        clear_parts(folder.parent)
        _empty(folder / _VALUES, (rows, width), np.dtype("<f4"))
        _empty(folder / _MARKS, (rows,), np.dtype("<u8"))
        write_atomic(folder / _FACTS, canonical_json(facts))


def _empty(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """A file of zeros that takes no space yet."""
    with write_whole(path) as file:
        write_header(file, shape, dtype)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)


# --- listing and cleaning ------------------------------------------------------------------------


@dataclass(frozen=True)
class VectorSlot:
    """One table, as listed by `clgym cache`."""

    folder: Path
    facts: dict[str, object]
    filled: int
    """Number of rows that have a vector."""
    size: int
    """Size on disk in bytes."""
    used: float
    """Time of its last use, in seconds since the epoch."""


def entries() -> list[VectorSlot]:
    """All tables, the least recently used first."""
    found = []
    for note in _root().glob("*/facts.json"):
        with contextlib.suppress(OSError, ValueError):  # another process may be deleting it
            files = [p.stat() for p in note.parent.iterdir()]
            text = note.read_bytes()
            if sha256(text) != note.parent.name:  # the folder is named by the hash of its facts
                continue
            found.append(
                VectorSlot(
                    note.parent,
                    json.loads(text),
                    _filled(note.parent),
                    sum(512 * f.st_blocks for f in files),
                    note.stat().st_mtime,
                )
            )
    return sorted(found, key=lambda entry: entry.used)


def _filled(folder: Path) -> int:
    """Number of marked rows; 0 where the marks are damaged, or were written by clgym 0.1."""
    try:
        return int(np.count_nonzero(mapped(folder / _MARKS)))
    except (OSError, ValueError):
        return 0


def clean(older_than_days: float = 0.0) -> list[VectorSlot]:
    """Delete the tables that were last used at least a number of days ago; return them.

    A process that has such a table open can still read and fill it.
    """
    limit = time.time() - 86400 * older_than_days
    old = [entry for entry in entries() if entry.used <= limit]
    for entry in old:
        _delete(entry.folder)
    return old


def _delete(folder: Path) -> None:
    """Delete a table, whose files all disappear at once for processes that open it now."""
    aside = folder.with_name(part_name(folder.name))
    with contextlib.suppress(FileNotFoundError):  # another process has deleted it
        folder.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)


def make_room(size: int) -> None:
    """Delete the least recently used tables until ``size`` more bytes are within the limit.

    Raises:
        BadOutput: The value of ``CLGYM_CACHE_GB`` is no number.
    """
    given = os.environ.get("CLGYM_CACHE_GB", str(LIMIT_GB))
    try:
        limit = float(given) * 1e9
    except ValueError:
        raise BadOutput(
            expected="a number of gigabytes in CLGYM_CACHE_GB",
            found=repr(given),
            fix="Set it to a number such as 20",
        ) from None
    held = entries()
    total = sum(entry.size for entry in held) + size
    for entry in held:
        if total <= limit:
            return
        _delete(entry.folder)
        total -= entry.size
