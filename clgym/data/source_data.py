"""Labelled rows of the source domain, for strategies that need them at test time.

A batch is float32 images [n, C, H, W] in [0, 1] and int64 labels [n], on the device.
"""

import copy
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clgym.data.images import Images
from clgym.data.to_device import to_device
from clgym.draws import sequence

__all__ = ["SourceData"]


class SourceData:
    """Training rows of the classifier, in batches whose order depends on a seed.

    Every draw depends on the seed and its number only, so that a resumed run gets the same batches.
    """

    def __init__(
        self,
        paths: list[Path],
        labels: np.ndarray,
        scale: float,
        resize: int | None,
        device: torch.device,
        seed: int,
    ) -> None:
        """Keep the paths; the files are mapped when the first batch is due.

        Args:
            paths: ``.npy`` files of uint8 images [n, H, W, C], in the order of the rows.
            labels: int64 [n], class indices of the rows of all files.
            scale: Factor that maps stored values to [0, 1].
            resize: Side in pixels; None keeps the stored size.
            device: Device of the batches.
            seed: Seed of the orders.
        """
        self._paths, self._resize = paths, resize
        self._labels = to_device(torch.tensor(labels), device)
        self._scale, self._seed, self._device = scale, seed, device

    @cached_property
    def _parts(self) -> list[Images]:
        return [Images(path, self._resize, self._device) for path in self._paths]

    @cached_property
    def _starts(self) -> np.ndarray:
        """Number of the first row of each file, and that of all rows."""
        lengths = [len(np.load(path, mmap_mode="r")) for path in self._paths]
        return np.cumsum([0, *lengths])

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._labels)

    def batch(self, size: int, number: int) -> tuple[Tensor, Tensor]:
        """Batch ``number`` of endless passes over all rows, each in a new order.

        Args:
            size: Number of rows per batch; the last one of a pass may be smaller.
            number: Number of the batch, from 0.
        """
        epoch, step = divmod(number, -(-len(self) // size))
        return self._gather(self._shuffled("rows", epoch)[step * size : (step + 1) * size])

    def once(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows once, shuffled, in batches of ``size``."""
        order = self._shuffled("rows once")
        for start in range(0, len(self), size):
            yield self._gather(order[start : start + size])

    def with_seed(self, seed: int) -> "SourceData":
        """The same rows in the orders of another seed."""
        other = copy.copy(self)
        other._seed = seed
        return other

    def _shuffled(self, name: str, epoch: int | None = None) -> np.ndarray:
        draws = sequence(self._seed, "source data", name, epoch=epoch)
        return np.random.default_rng(draws).permutation(len(self))

    def _gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        where = np.searchsorted(self._starts, rows, side="right") - 1
        parts = {
            int(p): self._parts[p].gather(rows[where == p] - self._starts[p])
            for p in np.unique(where)
        }
        first = next(iter(parts.values()))
        pixels = first.new_empty((len(rows), *first.shape[1:]))
        for part, images in parts.items():
            # Row numbers, since the size of a mask would have to be read from a GPU.
            places = torch.from_numpy(np.flatnonzero(where == part))
            pixels[to_device(places, self._device)] = images
        labels = self._labels[to_device(torch.from_numpy(rows), self._device)]
        return pixels.float().mul_(self._scale), labels
