"""Files with what is being learned: the only images that the learner that trains may open.

If it could open the file of all training images, a plugin that remembers row numbers and labels
would replay all past data with an empty memory. So the gym copies the images of an experience, and
their features, to files of their own. They are emptied and deleted once it is learned.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clgym.data.digests import rows_a_chunk
from clgym.data.npy import RowReader
from clgym.data.row_files import write_header
from clgym.data.store import Split
from clgym.files import writing
from clgym.gym.folder import DUE
from clgym.gym.plan import ResolvedRun
from clgym.gym.testing import TestLearners
from clgym.messages import DueFiles, FillFeatures, RowGroup, Start

__all__ = ["Due"]


class Due:
    """What a learner is given to learn from, at present."""

    def __init__(
        self, run: ResolvedRun, learners: TestLearners, start: Callable[[], Start]
    ) -> None:
        """Write nothing yet.

        Args:
            run: The run that is carried out.
            learners: Computes frozen features, in another process.
            start: Returns the message that builds the strategy.
        """
        self._run, self._learners, self._start = run, learners, start
        self._folder = run.out.resolve() / DUE
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
                split = self._run.sources[group.source].train
                _write(path, split, rows[start : start + count])
                images.append(path)
                start += count
        return DueFiles(images=tuple(images), features=self._features(groups, rows, counts))

    def _features(
        self, groups: Sequence[RowGroup], rows: np.ndarray, counts: Sequence[int]
    ) -> Path | None:
        needs = self._run.needs
        if not needs.features or needs.backbone is None:
            return None
        path = self._next("features")
        where = np.repeat(np.arange(len(groups)), counts)
        self._learners.fill_features(
            FillFeatures(
                start=self._start(),
                backbone=needs.backbone,
                rows=rows,
                where=where,
                groups=tuple(groups),
                to=path,
            )
        )
        return path

    def _next(self, what: str) -> Path:
        self._written += 1
        return self._folder / f"{what}-{self._written}.npy"

    def close(self) -> None:
        """Delete the files, those of an interrupted process too.

        They are emptied first, since a plugin may have kept them open.
        """
        with contextlib.suppress(OSError):  # there is no folder
            for path in self._folder.iterdir():
                os.truncate(path, 0)
                path.unlink()


def _write(path: Path, split: Split, rows: np.ndarray) -> None:
    """Write some images of a split in parts, so that they may exceed memory.

    They are not flushed to the disk, since no later process reads them.
    """
    shape, reader = (len(rows), *split.images.shape[1:]), RowReader(split.images)
    step = rows_a_chunk(shape)
    with path.open("wb") as file:
        write_header(file, shape, split.images.dtype)
        for start in range(0, len(rows), step):
            file.write(np.ascontiguousarray(reader[rows[start : start + step]]).data)
