"""Stored images of one split, mapped from disk and read to the device on demand."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clgym.data.apply_transform import apply_transform
from clgym.data.augment import resize
from clgym.data.npy import RowReader

__all__ = ["Images"]

AT_ONCE = 8 * 2**20
"""Bytes of pixels that are transformed at once, stored or resized: as numbers they are four times
as large."""


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
            resize: Side that `gather` gives; None means the stored one.
            device: Where `gather` puts the images.
            channels: Channels that `gather` returns (grey is repeated); None means the stored ones.
            gain: What stored values are multiplied by, where sources of a stream differ in range.
            white: Largest value of a pixel after that.
        """
        self._array = np.load(path, mmap_mode="r")
        self._reader = RowReader(self._array)
        self._resize, self._device, self._channels = resize, device, channels
        self._gain, self._white = gain, white

    def __len__(self) -> int:
        """Count the images."""
        return len(self._array)

    def gather(self, rows: np.ndarray, transform: tuple[str, float] | None = None) -> Tensor:
        """Read the images of ``rows`` as uint8 [n, C, H, W] on the device, transformed.

        Many are read part by part, so that they are in memory once, whatever happens to them.
        """
        step = self._rows_at_once()
        first = self._read(rows[:step], transform)
        if len(rows) <= step:
            return first.contiguous()
        pixels = first.new_empty((len(rows), *first.shape[1:]))
        pixels[:step] = first
        for start in range(step, len(rows), step):
            pixels[start : start + step] = self._read(rows[start : start + step], transform)
        return pixels

    def _rows_at_once(self) -> int:
        stored = self._array.shape[1:]
        size = int(np.prod(stored))
        if self._resize is not None:
            size = max(size, stored[2] * self._resize**2)
        return max(1, AT_ONCE // max(1, size))

    def _read(self, rows: np.ndarray, transform: tuple[str, float] | None) -> Tensor:
        pixels = torch.from_numpy(self._reader[rows]).to(self._device).permute(0, 3, 1, 2)
        if self._gain != 1.0:
            pixels = (pixels.float() * self._gain).round().byte()
        if self._resize is not None:
            pixels = resize(pixels, self._resize)
        if self._channels is not None and pixels.shape[1] == 1:
            pixels = pixels.expand(-1, self._channels, -1, -1)
        if transform is not None:
            pixels = apply_transform(pixels, *transform, self._white)
        return pixels
