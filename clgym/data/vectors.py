"""Tables of vectors on disk, one a row of a split, filled little by little. No torch here.

    features/KEY/facts.json   what the vectors are; KEY is the hash of these facts
    features/KEY/values.npy   float32 [N, d], a sparse file at first
    features/KEY/filled.npy   uint8 [N], 1 where the row of values has been written

Writers need no lock: whoever fills a row writes the same vector, and says so afterwards.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clgym.data.store import cache_dir
from clgym.errors import BadAnswer, BadConfig, BadOutput
from clgym.files import canonical_json, sha256, write_atomic

__all__ = ["Entry", "Table", "clean", "entries"]

LIMIT_GB = 20.0
"""Size of all tables together, unless ``CLGYM_CACHE_GB`` says otherwise."""


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
        with _refusals(self.folder):
            if not (self.folder / "facts.json").is_file():
                make_room(rows * width * 4)
                self.folder.mkdir(parents=True, exist_ok=True)
                _empty(self.folder / "values.npy", (rows, width), np.dtype("<f4"))
                _empty(self.folder / "filled.npy", (rows,), np.dtype("u1"))
                write_atomic(self.folder / "facts.json", canonical_json(facts))
            os.utime(self.folder / "facts.json")  # the time of the last use
            self._values = np.load(self.folder / "values.npy", mmap_mode="r", allow_pickle=False)
            self._filled = np.load(self.folder / "filled.npy", mmap_mode="r", allow_pickle=False)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of ``rows`` that nobody has filled yet, each once, ascending."""
        return np.unique(rows[self._filled[rows] == 0])

    def get(self, rows: np.ndarray) -> np.ndarray:
        """Their vectors, float32 [n, d]."""
        return self._values[rows]

    def put(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Fill rows: the vectors reach the disk before the marks do.

        Plain writes, not a writable map: on a full disk a map ends in SIGBUS, a write in an error.

        Raises:
            BadOutput: the cache cannot be written.
            BadAnswer: the vectors are of another number or width than the table's.
        """
        vectors = np.ascontiguousarray(vectors, dtype="<f4")
        if vectors.shape != (len(rows), self._values.shape[1]):
            raise BadAnswer(
                expected=f"{len(rows)} vectors of {self._values.shape[1]} numbers",
                found=f"an array of {vectors.shape}",
                fix="Report this: a network has stated another width than its features have",
            )
        with _refusals(self.folder):
            _write_rows(self.folder / "values.npy", self._values, rows, vectors)
            _write_rows(
                self.folder / "filled.npy", self._filled, rows, np.ones(len(rows), np.uint8)
            )


def _empty(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """A file of zeros that takes no space yet; kept as it is if somebody was faster."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        fields = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, fields)
        file.truncate(file.tell() + int(np.prod(shape)) * dtype.itemsize)
    with contextlib.suppress(FileExistsError):
        os.link(part, path)
    part.unlink()


def _write_rows(path: Path, mapped: Any, rows: np.ndarray, values: np.ndarray) -> None:
    step = values[0].nbytes
    file = os.open(path, os.O_WRONLY)
    try:
        for row, value in zip(rows.tolist(), values, strict=True):
            os.pwrite(file, value.tobytes(), mapped.offset + row * step)
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def _refusals(path: Path) -> Any:
    try:
        yield
    except (OSError, ValueError) as error:
        raise BadOutput(
            expected="a cache folder that can be written and has space",
            found=f"{getattr(error, 'strerror', None) or error} at {path}",
            fix="Free some space (`clgym cache clean`), or set CLGYM_CACHE to another folder",
        ) from error


# --- looking and cleaning ------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One table, as `clgym cache` shows it."""

    folder: Path
    facts: dict[str, Any]
    filled: int
    """Rows that have a vector."""
    size: int
    """Bytes on disk."""
    used: float
    """Seconds since the epoch at its last use."""


def entries() -> list[Entry]:
    """All tables, the least recently used first."""
    found = []
    for note in _root().glob("*/facts.json"):
        with contextlib.suppress(OSError, ValueError):  # somebody may be deleting it
            files = [p.stat() for p in note.parent.iterdir()]
            filled = np.load(note.parent / "filled.npy", mmap_mode="r", allow_pickle=False)
            found.append(
                Entry(
                    note.parent,
                    json.loads(note.read_text()),
                    int(filled.sum()),
                    sum(512 * f.st_blocks for f in files),
                    note.stat().st_mtime,
                )
            )
    return sorted(found, key=lambda entry: entry.used)


def clean(older_than_days: float = 0.0) -> list[Entry]:
    """Delete the tables that nobody used for so many days; answer which they were.

    A process that has one open keeps what it has mapped.
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
            expected="a number of gigabytes in CLGYM_CACHE_GB", found=repr(given), fix="Mend it"
        ) from None
    held = entries()
    total = sum(entry.size for entry in held) + size
    for entry in held:
        if total <= limit:
            return
        shutil.rmtree(entry.folder, ignore_errors=True)
        total -= entry.size
