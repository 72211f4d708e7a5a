"""Arrays of npz archives that may exceed memory: mapped in the archive, or unpacked in pieces."""

import math
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from clgym.data.digests import chunks
from clgym.data.labelled import damaged
from clgym.data.npy import NpyHeader, check_header

__all__ = ["MALFORMED", "PackedRows", "extremes", "large_array", "small_array"]

MALFORMED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    MemoryError,
)
"""Exceptions that NumPy and Python raise on malformed archives."""
_PIECE = 2**20
_LOCAL_HEADER, _LENGTHS = 30, 26
"""Length of the header before a member, and the position in it of the name's length, in bytes."""


def small_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Read an array into memory.

    Raises:
        one of `MALFORMED`: It is no array, holds Python objects, or is damaged.
    """
    with archive.open(member) as file:
        check_header(file, member.file_size)  # type: ignore[arg-type]
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def large_array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path
) -> "np.ndarray | PackedRows":
    """Open an array that may exceed memory.

    Args:
        archive: Open archive.
        member: Entry of the array.
        path: Path of the archive.

    Raises:
        one of `MALFORMED`: It is no array, holds Python objects, or is damaged; damage of a
            compressed array is found when it is read.
    """
    with archive.open(member) as file:
        header = check_header(file, member.file_size)  # type: ignore[arg-type]
    compressed = member.compress_type != zipfile.ZIP_STORED
    # In Fortran order the numbers of a row are not contiguous in the unpacked bytes.
    if header.dtype.hasobject or not math.prod(header.shape) or (compressed and header.fortran):
        return small_array(archive, member)
    if compressed:
        return PackedRows(path, member, header, header.shape)
    with archive.open(member) as file:
        while file.read(_PIECE):  # at the end the checksum is compared
            pass
    return np.memmap(
        path,
        header.dtype,
        mode="r",
        offset=_begin(archive, member) + header.length,
        shape=header.shape,
        order="F" if header.fortran else "C",
    )


def _begin(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Place in the archive of a stored member's first byte."""
    assert archive.fp is not None
    archive.fp.seek(member.header_offset + _LENGTHS)
    name, extra = struct.unpack("<HH", archive.fp.read(4))
    return member.header_offset + _LOCAL_HEADER + name + extra


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows of a compressed array, unpacked when a slice is read; fastest in ascending order."""

    path: Path
    """Path of the archive."""
    member: zipfile.ZipInfo
    header: NpyHeader
    shape: tuple[int, ...]
    """Shape of the array as it is read, with as many numbers as the header's shape."""
    _open: list[IO[bytes]] = field(default_factory=list[IO[bytes]], init=False)

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self.header.dtype

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """The rows of this slice, [n, ...].

        Raises:
            BadSource: The archive is damaged.
        """
        first, last, _ = rows.indices(self.shape[0])
        shape = (max(last - first, 0), *self.shape[1:])
        each = math.prod(self.shape[1:]) * self.dtype.itemsize
        data, done = memoryview(bytearray(shape[0] * each)), 0
        try:
            file = self._file()
            file.seek(self.header.length + first * each)
            while done < len(data):
                piece = file.read(min(_PIECE, len(data) - done))
                if not piece:
                    raise EOFError(f"{len(data) - done} bytes are missing")
                data[done : done + len(piece)] = piece
                done += len(piece)
        except MALFORMED as error:
            raise damaged(self.path, f"the array {self.member.filename}", error) from error
        return np.frombuffer(data, self.dtype).reshape(shape)

    def _file(self) -> IO[bytes]:
        """The unpacked bytes, opened once: a new file would unpack from the beginning again."""
        if not self._open:
            archive = zipfile.ZipFile(self.path)  # lives as long as its member
            self._open.append(archive.open(self.member))
        return self._open[0]


def extremes(images: np.ndarray | PackedRows) -> tuple[np.generic, np.generic]:
    """The smallest and the largest number; NaN if there is one."""
    ends = [(chunk.min(), chunk.max()) for chunk in chunks(images)]
    return np.min([low for low, _ in ends]), np.max([high for _, high in ends])
