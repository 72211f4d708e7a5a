"""Stored images of one split, mapped from disk and read to the device on demand."""

import math
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clgym.data.apply_transform import apply_transform
from clgym.data.augment import resize
from clgym.data.npy import RowReader
from clgym.data.read_ahead import read_ahead
from clgym.data.to_device import copy_to, staged

__all__ = ["Images"]

AT_ONCE = 8 * 2**20
"""Bytes of stored or resized pixels that are transformed at once; as floats they take four times
as much."""


class Images:
    """Images of a split: uint8 [N, H, W, C] in a ``.npy`` file that is never loaded as a whole."""

    def __init__(
        self,
        path: Path,
        resize: int | None,
        device: torch.device,
        channels: int | None = None,
        gain: float = 1.0,
        white: int = 255,
    ) -> None:
        """Map the file.

        Args:
            path: Path of the file.
            resize: Side in pixels of the images that `gather` returns; None means the stored one.
            device: Device of the images that `gather` returns.
            channels: Channels that `gather` returns (grey is repeated); None means the stored ones.
            gain: Factor of stored values, for streams whose sources differ in range.
            white: Largest value of a pixel after multiplication by ``gain``.
        """
        self._array = np.load(path, mmap_mode="r")
        self._reader = RowReader(self._array)
        self._resize, self._device, self._channels = resize, device, channels
        self._gain, self._white = gain, white
        stored = self._array.shape[1:]
        size = max(math.prod(stored), 0 if resize is None else stored[2] * resize**2)
        self._rows_at_once = max(1, AT_ONCE // max(1, size))

    def __len__(self) -> int:
        """Count the images."""
        return len(self._array)

    def gather(self, rows: np.ndarray, transform: tuple[str, float] | None = None) -> Tensor:
        """Read the images of ``rows`` as uint8 [n, C, H, W] on the device, transformed.

        Many images are read and transformed part by part, so that memory holds them only once; with
        a GPU the next part is read while the GPU transforms the present one.

        Args:
            rows: int64 [n], row numbers.
            transform: Kind and amount, see `apply_transform`; None for none.
        """
        step = self._rows_at_once
        if len(rows) <= step:
            return self.finish(self.read(rows), transform)
        parts = [rows[start : start + step] for start in range(0, len(rows), step)]
        with closing(read_ahead(parts, self.read, self._device)) as found:
            return self._joined(found, len(rows), transform)

    def read(self, rows: np.ndarray) -> Tensor:
        """Read the images of ``rows`` as stored, uint8 [n, H, W, C], into the host's memory.

        It may be called in another thread, since it draws no numbers and does not use the device.
        """
        return staged(torch.from_numpy(self._reader[rows]), self._device)

    def finish(self, stored: Tensor, transform: tuple[str, float] | None = None) -> Tensor:
        """Copy images that `read` returned to the device, and transform them as `gather` does."""
        return self._joined(stored.split(self._rows_at_once), len(stored), transform)

    def _joined(
        self, parts: Iterable[Tensor], count: int, transform: tuple[str, float] | None
    ) -> Tensor:
        """The ``count`` images of some parts, transformed part by part."""
        pixels: Tensor | None = None
        start = 0
        for stored in parts:
            some = self._transformed(stored, transform)
            if len(some) == count:
                return some.contiguous()
            if pixels is None:
                pixels = some.new_empty((count, *some.shape[1:]))
            pixels[start : start + len(some)] = some
            start += len(some)
        assert pixels is not None
        return pixels

    def _transformed(self, stored: Tensor, transform: tuple[str, float] | None) -> Tensor:
        pixels = copy_to(stored, self._device).permute(0, 3, 1, 2)
        if self._gain != 1.0:
            pixels = (pixels.float() * self._gain).round().byte()
        if self._resize is not None:
            pixels = resize(pixels, self._resize)
        if self._channels is not None and pixels.shape[1] == 1:
            pixels = pixels.expand(-1, self._channels, -1, -1)
        if transform is not None:
            pixels = apply_transform(pixels, *transform, self._white)
        return pixels
