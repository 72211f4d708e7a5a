"""Files with the images of a test: the only images that the learner of the test may open.

If it could open the file of a whole split, a plugin would see the images of later experiences, and
in tests on training rows it could look up images that it has learned the labels of. So the gym
writes files that have the form and the row numbers of a split's file, but contain the images of the
test alone: the other rows are holes, which take no space and are read as zeros.
"""

import contextlib
from collections.abc import Generator
from pathlib import Path

import numpy as np

from clgym.data.npy import RowReader
from clgym.data.row_files import write_header
from clgym.files import writing
from clgym.gym.folder import SHOWN
from clgym.gym.plan import ResolvedRun
from clgym.messages import RowGroup, SourceFiles

__all__ = ["Rows", "shown", "shown_features"]

Rows = tuple[tuple[RowGroup, ...], np.ndarray, np.ndarray]
"""Groups of rows; row numbers, int64 [n]; index of each row's group, int64 [n]."""
_AT_ONCE = 256 * 2**10
"""Bytes of neighbouring images that are written at once if one of them is shown."""


@contextlib.contextmanager
def shown(run: ResolvedRun, rows: Rows) -> Generator[tuple[SourceFiles, ...]]:
    """Write the images of some rows, and name their files; they are deleted afterwards.

    Args:
        run: The run.
        rows: Rows of both splits of the sources.

    Raises:
        BadOutput: The output folder cannot be written.
    """
    groups, numbers, where = rows
    folder = run.out.resolve() / SHOWN
    _empty(folder)  # of an interrupted process
    places = {(group.source, group.split) for group in groups}
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for source, split in places:
                chosen = [g.source == source and g.split == split for g in groups]
                due = np.unique(numbers[np.array(chosen)[where]])
                images = getattr(run.sources[source], split).images
                _write(_path(folder, source, split), images, due)
        yield tuple(
            SourceFiles(
                train=_path(folder, number, "train"),
                test=_path(folder, number, "test"),
                max_value=source.max_value,
                fingerprint=source.fingerprint,
            )
            for number, source in enumerate(run.sources)
        )
    finally:
        _empty(folder)


def shown_features(run: ResolvedRun) -> Path:
    """File of the features of the images of a test, for strategies that need them."""
    return run.out.resolve() / SHOWN / "features.npy"


def _empty(folder: Path) -> None:
    """Delete the files, not the folder: a sandbox opens the one that was there at its start."""
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _path(folder: Path, source: int, split: str) -> Path:
    return folder / f"{source}-{split}.npy"


def _write(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Write a file like that of ``images`` with some of its rows, ascending.

    It is not flushed to the disk, since no later process reads it.
    """
    reader, row_bytes = RowReader(images), images[:1].nbytes
    together = max(1, _AT_ONCE // max(1, row_bytes))
    with path.open("wb") as file:
        write_header(file, images.shape, images.dtype)
        start = file.tell()
        file.truncate(start + len(images) * row_bytes)
        for part in np.split(rows, np.flatnonzero(np.diff(rows // together)) + 1):
            if not len(part):
                continue
            block = np.zeros((part[-1] - part[0] + 1, *images.shape[1:]), images.dtype)
            block[part - part[0]] = reader[part]
            file.seek(start + int(part[0]) * row_bytes)
            file.write(block.data)
