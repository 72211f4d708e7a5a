"""Features of a frozen backbone, computed once for every image and kept on disk.

Stored features are addressed by all that determines them: weights, images, the preprocessing of
images, and the kind of device. One pass over the images serves all seeds, class orders and trials.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clgym.data.images import Images
from clgym.data.read_ahead import read_ahead
from clgym.data.row_files import write_header
from clgym.data.to_device import to_device
from clgym.data.vectors import Table
from clgym.files import writing
from clgym.messages import RowGroup
from clgym.models.backbones import Backbone, Frozen, identify, load

__all__ = ["BATCH", "FrozenFeatures", "SplitRows"]

BATCH = 64
"""Number of images that pass through the network at once. It is constant, so that the same kernels
run for all images: a smaller batch is filled with zeros."""
_VERSION = 1
"""Version that is part of every key; increase it when the numbers change."""


@dataclass(frozen=True, eq=False)
class SplitRows:
    """One split of a source as the learner has it."""

    images: Images
    content: Sequence[Any]
    """Identity of the images: fingerprint, split, and resize."""
    scale: float
    """Factor that converts stored pixels to [0, 1]."""


class FrozenFeatures:
    """Features by row; the network is loaded only when some are missing."""

    def __init__(
        self,
        frozen: Frozen,
        device: torch.device,
        rows_of: Callable[[int, str], SplitRows],
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Identify the backbone.

        Args:
            frozen: The backbone and the format of its input.
            device: Device of the computation and of the features.
            rows_of: Returns the split for the number of a source and the name of a split.
            report: Called with the number of missing rows that are done, and their total.

        Raises:
            ClgymError: The backbone is not available.
        """
        self._frozen, self._device = frozen, device
        self._rows_of, self._report = rows_of, report
        self._identity = identify(frozen)
        self._backbone: Backbone | None = None
        self._tables: dict[str, Table] = {}

    def of(self, groups: Sequence[RowGroup], rows: np.ndarray, where: np.ndarray) -> Tensor:
        """Features of some rows, float32 [n, width] on the device, in the order given.

        Args:
            groups: Distinct groups of rows.
            rows: Row numbers, int64 [n].
            where: Index of each row's group, int64 [n].

        Raises:
            BadOutput: The cache cannot be written.
        """
        return to_device(torch.from_numpy(self._found(groups, rows, where)), self._device)

    def _found(self, groups: Sequence[RowGroup], rows: np.ndarray, where: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self._identity.width), dtype=np.float32)
        for group, places in _by_group(groups, where):
            found[places] = self._filled(group, rows[places]).get(rows[places])
        return found

    def fill(
        self,
        groups: Sequence[RowGroup],
        rows: np.ndarray,
        where: np.ndarray,
        to: Path | None = None,
    ) -> None:
        """Compute the missing features; other arguments and errors are those of `of`.

        Args:
            groups: See `of`.
            rows: See `of`.
            where: See `of`.
            to: Path to which the features are written as a ``.npy`` file; None writes none.
        """
        if to is not None:
            found = self._found(groups, rows, where)
            with writing(to), to.open("wb") as file:
                write_header(file, found.shape, found.dtype)
                file.write(found.data)
            return
        for group, places in _by_group(groups, where):
            self._filled(group, rows[places])

    def _filled(self, group: RowGroup, rows: np.ndarray) -> Table:
        """The table of a group, with the rows in it."""
        split, transform = self._rows_of(group.source, group.split), group.transform
        table = self._table(split, transform)
        missing = table.missing(rows)
        parts = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]
        done = 0
        for due, vectors in self._one_behind(split, parts, transform):
            table.put(due, vectors.cpu().numpy())
            done += len(due)
            self._report(done, len(missing))
        return table

    def _one_behind(
        self, split: SplitRows, parts: Sequence[np.ndarray], transform: tuple[str, float] | None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Rows and their features, [n, width] on the device, each when the next are under way."""
        before: tuple[np.ndarray, Tensor] | None = None
        with closing(read_ahead(parts, split.images.read, self._device)) as found:
            for due, stored in zip(parts, found, strict=True):
                pixels = split.images.finish(stored, transform)
                vectors = self._compute(pixels, split.scale)
                if before is not None:
                    yield before
                before = due, vectors
        if before is not None:
            yield before

    def _table(self, split: SplitRows, transform: tuple[str, float] | None) -> Table:
        frozen = {k: v for k, v in asdict(self._frozen).items() if k != "name"}
        facts = {
            "version": _VERSION,
            "backbone": self._identity.name.partition("@")[0],
            "weights": self._identity.weights,
            "input": {**frozen, "scale": split.scale, "transform": transform and list(transform)},
            "content": list(split.content),
            "device": self._device.type,
            "dtype": "float32" if self._device.type == "cpu" else "float32 without TF32",
        }
        key = repr(facts)
        if key not in self._tables:
            self._tables[key] = Table(facts, len(split.images), self._identity.width)
        return self._tables[key]

    @torch.no_grad()
    def _compute(self, pixels: Tensor, scale: float) -> Tensor:
        if self._backbone is None:
            self._backbone = load(self._frozen, self._device)
        batch = pixels.new_zeros((BATCH, *pixels.shape[1:]), dtype=torch.float32)
        batch[: len(pixels)] = pixels.float().mul_(scale)
        return self._backbone(batch)[: len(pixels)]


def _by_group(
    groups: Sequence[RowGroup], where: np.ndarray
) -> Iterator[tuple[RowGroup, np.ndarray]]:
    """Yield each group that has rows, with the positions of these rows."""
    for number in np.unique(where):
        yield groups[number], np.flatnonzero(where == number)
