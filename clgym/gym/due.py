"""Files with what is being learned: the only images that the learner that trains may open.

If it could open the file of all training images, a plugin that remembers row numbers and labels
would replay all past data with an empty memory. So the gym copies the images of an experience, and
their features, to files of their own. They are emptied and deleted once it is learned.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clgym.data.digests import rows_a_chunk
from clgym.data.npy import RowReader
from clgym.data.row_files import write_header
from clgym.data.store import Split
from clgym.errors import BadAnswer, BadOutput
from clgym.files import writing
from clgym.gym.feature_files import FeatureFiles
from clgym.gym.folder import DUE
from clgym.gym.plan import ResolvedRun
from clgym.messages import DueFiles, RowGroup

__all__ = ["Due"]

_CHANGED = (errno.EISDIR, errno.EPERM, errno.EACCES, errno.ENOTDIR)
"""Errors that show that files were replaced or their permissions changed."""


class Due:
    """What a learner is given to learn from, at present."""

    def __init__(self, run: ResolvedRun, features: FeatureFiles) -> None:
        """Write nothing yet."""
        self._run, self._features = run, features
        self._folder = run.out.resolve() / DUE
        self._files: list[BinaryIO] = []
        self._written = 0

    def add(self, groups: Sequence[RowGroup], rows: np.ndarray, counts: Sequence[int]) -> DueFiles:
        """Write the images of some training rows, and their features if the strategy needs them.

        Args:
            groups: Groups of rows.
            rows: Row numbers by group, int64 [n].
            counts: Number of rows of each group; groups follow one another.

        Raises:
            BadOutput: The output folder cannot be written.
        """
        images: list[Path] = []
        start = 0
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            for group, count in zip(groups, counts, strict=True):
                path = self._next("images")
                self._files.append(path.open("wb"))
                split = self._run.sources[group.source].train
                _write(self._files[-1], split, rows[start : start + count])
                images.append(path)
                start += count
        where = np.repeat(np.arange(len(groups)), counts)
        path = self._features.compute(tuple(groups), rows, where, self._next("features"))
        if path is not None:
            self._files.append(path.open("r+b"))
        return DueFiles(images=tuple(images), features=path)

    def _next(self, what: str) -> Path:
        self._written += 1
        return self._folder / f"{what}-{self._written}.npy"

    def close(self) -> None:
        """Empty and delete the files; delete those of an interrupted process, too.

        They are emptied by the descriptors that wrote them: a plugin may have kept a file open, or
        have changed its permissions.

        Raises:
            BadAnswer: The files were changed, so that they cannot be emptied or deleted.
            BadOutput: The operating system refused.
        """
        try:
            for file in self._files:
                os.ftruncate(file.fileno(), 0)
            for path in [*self._folder.iterdir()] if self._folder.is_dir() else []:
                path.unlink()
        except OSError as error:
            kind = BadAnswer if error.errno in _CHANGED else BadOutput
            raise kind(
                expected="the images of an experience to be deleted once it is learned",
                found=f"{error.strerror} in {self._folder}",
                fix="A plugin must not change these files; delete the folder and repeat the run",
            ) from error
        finally:
            for file in self._files:
                with contextlib.suppress(OSError):  # after a full disk there is something to write
                    file.close()
            self._files.clear()


def _write(file: BinaryIO, split: Split, rows: np.ndarray) -> None:
    """Write some images of a split in parts, so that they may exceed memory.

    They are not flushed to the disk, since no later process reads them.
    """
    shape, reader = (len(rows), *split.images.shape[1:]), RowReader(split.images)
    step = rows_a_chunk(shape)
    write_header(file, shape, split.images.dtype)
    for start in range(0, len(rows), step):
        file.write(np.ascontiguousarray(reader[rows[start : start + step]]).data)
    file.flush()
