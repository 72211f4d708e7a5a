"""Tables of vectors on disk, one row per image of a split, filled step by step. No torch here.

    features/KEY/facts.json   what the vectors are; KEY is the hash of these facts
    features/KEY/values.npy   float32 [N, d], a sparse file at first
    features/KEY/marks.npy    uint64 [N], of each row that has been written its checksum; else 0

Writers need no lock: all writers of a row write the same vector, and mark it afterwards. On its
first use in a process a vector is compared with its mark; one that does not agree counts as missing
and is computed anew, and the log says so.
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
from typing import Any

import numpy as np

from clgym._moved import report_renamed
from clgym.data.cache import cache_dir, filling_cache
from clgym.data.npy import mapped
from clgym.data.row_files import write_header
from clgym.errors import BadAnswer, BadConfig, BadOutput
from clgym.files import canonical_json, clear_parts, locked, sha256, write_atomic, write_whole

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
        """Open the table with these facts, or make it: ``rows`` vectors of ``width`` numbers.

        Raises:
            BadOutput: the cache cannot be written.
        """
        facts = {**facts, "rows": rows, "width": width}
        self.folder = _root() / sha256(canonical_json(facts))
        with filling_cache(self.folder, ValueError):
            if not _is_table(self.folder, facts):
                _make_table(self.folder, facts)
            with contextlib.suppress(PermissionError):  # a process that may only read
                os.utime(self.folder / _FACTS)  # the time of the last use
            self._values, self._marks = (mapped(self.folder / name) for name in (_VALUES, _MARKS))
        self._verified = np.zeros(rows, dtype=bool)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Rows that are not filled yet, or are damaged; each once, ascending."""
        rows = np.unique(rows)
        damaged = self._verify(rows)
        if len(damaged):
            _log.warning(
                "%d cached features are damaged, computed anew: %s", len(damaged), self.folder
            )
        return np.union1d(rows[self._marks[rows] == 0], damaged)

    def get(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of the rows, float32 [n, d].

        Raises:
            BadOutput: A row differs from what was written.
        """
        if len(self._verify(np.unique(rows))):
            raise BadOutput(
                expected=f"cached features in {self.folder} as they were written",
                found="different content",
                fix="Give the command again; `clgym cache clean` deletes them",
            )
        return self._values[rows]

    def _verify(self, rows: np.ndarray) -> np.ndarray:
        """Compare marked rows with their marks, once in a process; those that do not agree."""
        due = rows[(self._marks[rows] != 0) & ~self._verified[rows]]
        good = _marks(due, self._values) == self._marks[due]
        self._verified[due[good]] = True
        return due[~good]

    def put(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Fill rows: the vectors reach the disk before the marks do.

        Plain writes, not a writable map: on a full disk a map ends in SIGBUS, a write in an error.

        Raises:
            BadOutput: the cache cannot be written.
            BadAnswer: Number or width of the vectors differs from the rows or from the table.
        """
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        if vectors.shape != (len(rows), self._values.shape[1]):
            raise BadAnswer(
                expected=f"{len(rows)} vectors of {self._values.shape[1]} numbers",
                found=f"an array of {vectors.shape}",
                fix="Report this as a bug: a network declared a wrong width for its features",
            )
        with filling_cache(self.folder, ValueError):
            _write_rows(self.folder / _VALUES, self._values, rows, vectors)
            marks = _marks(rows, vectors, own=True)
            _write_rows(self.folder / _MARKS, self._marks, rows, marks)


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


def _is_table(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a folder holds the table of these facts, and files of its size."""
    rows, width = facts["rows"], facts["width"]
    try:
        values, marks = (mapped(folder / name) for name in (_VALUES, _MARKS))
        note = (folder / _FACTS).read_bytes()
    except (OSError, ValueError):
        return False
    types = (values.dtype, values.shape), (marks.dtype, marks.shape)
    return note == canonical_json(facts) and types == (
        (np.dtype("<f4"), (rows, width)),
        (np.dtype("<u8"), (rows,)),
    )


def _make_table(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make an empty table; of several processes one does, for the others' maps to stay."""
    rows, width = facts["rows"], facts["width"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / ".lock", wait=True):
        if _is_table(folder, facts):
            return
        if (folder / _FACTS).exists():
            _log.warning("cached features are damaged, computed anew: %s", folder)
        make_room(rows * width * 4)
        folder.mkdir(exist_ok=True)
        clear_parts(folder)
        _empty(folder / _VALUES, (rows, width), np.dtype("<f4"))
        _empty(folder / _MARKS, (rows,), np.dtype("<u8"))
        write_atomic(folder / _FACTS, canonical_json(facts))


def _empty(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """A file of zeros that takes no space yet."""
    with write_whole(path) as file:
        write_header(file, shape, dtype)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)


def _write_rows(path: Path, mapped: Any, rows: np.ndarray, values: np.ndarray) -> None:
    step = values[0].nbytes
    file = os.open(path, os.O_WRONLY)
    try:
        for row, value in zip(rows.tolist(), values, strict=True):
            os.pwrite(file, value.tobytes(), mapped.offset + row * step)
        os.fsync(file)
    finally:
        os.close(file)


# --- looking and cleaning ------------------------------------------------------------------------


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
        with contextlib.suppress(OSError, ValueError):  # somebody may be deleting it
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
    """Rows that are marked; 0 where the marks are damaged, or of clgym 0.1."""
    try:
        return int(np.count_nonzero(mapped(folder / _MARKS)))
    except (OSError, ValueError):
        return 0


def clean(older_than_days: float = 0.0) -> list[VectorSlot]:
    """Delete the tables that were not used for a number of days; return them.

    A process that has such a table open can still read it.
    """
    limit = time.time() - 86400 * older_than_days
    old = [entry for entry in entries() if entry.used <= limit]
    for entry in old:
        shutil.rmtree(entry.folder, ignore_errors=True)
    return old


def make_room(size: int) -> None:
    """Delete the least recently used tables until ``size`` more bytes are within the limit.

    Raises:
        BadConfig: ``CLGYM_CACHE_GB`` is no number.
    """
    given = os.environ.get("CLGYM_CACHE_GB", str(LIMIT_GB))
    try:
        limit = float(given) * 1e9
    except ValueError:
        raise BadConfig(
            expected="a number of gigabytes in CLGYM_CACHE_GB",
            found=repr(given),
            fix="Set it to a number such as 20",
        ) from None
    held = entries()
    total = sum(entry.size for entry in held) + size
    for entry in held:
        if total <= limit:
            return
        shutil.rmtree(entry.folder, ignore_errors=True)
        total -= entry.size
