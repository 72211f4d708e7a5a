"""Stored images of one split, mapped from disk and read to the device on demand."""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.data.augment import resize

__all__ = ["Images", "permute_pixels", "rotate"]


class Images:
    """Images of a split: uint8 [N, H, W, C] in a ``.npy`` file that is never loaded as a whole."""

    def __init__(
        self,
        path: Path,
        resize: int | None,
        device: torch.device,
        channels: int | None = None,
        gain: float = 1.0,
    ) -> None:
        """Map the file.

        Args:
            path: Path of the file.
            resize: Side that `gather` gives; None means the stored one.
            device: Where `gather` puts the images.
            channels: Channels that `gather` returns (grey is repeated); None means the stored ones.
            gain: What stored values are multiplied by, where sources of a stream differ in range.
        """
        self._array = np.load(path, mmap_mode="r")
        self._resize, self._device, self._channels = resize, device, channels
        self._gain = gain

    def __len__(self) -> int:
        """Count the images."""
        return len(self._array)

    def gather(self, rows: np.ndarray, transform: tuple[str, float] | None = None) -> Tensor:
        """Read the images of ``rows`` as uint8 [n, C, H, W] on the device, transformed."""
        pixels = torch.from_numpy(self._array[rows]).to(self._device).permute(0, 3, 1, 2)
        if self._gain != 1.0:
            pixels = (pixels.float() * self._gain).round().byte()
        if self._resize is not None:
            pixels = resize(pixels, self._resize)
        if self._channels is not None and pixels.shape[1] == 1:
            pixels = pixels.expand(-1, self._channels, -1, -1)
        if transform is not None:
            kind, amount = transform
            pixels = rotate(pixels, amount) if kind == "rotate" else permute_pixels(pixels, amount)
        return pixels.contiguous()


def permute_pixels(pixels: Tensor, seed: float) -> Tensor:
    """One permutation of all places, alike for every image and channel.

    NumPy's legacy permutation of H * W under ``seed``, as permuted MNIST is usually made.
    """
    flat = pixels.flatten(2)
    order = np.random.RandomState(int(seed)).permutation(flat.shape[-1])
    return flat[..., torch.from_numpy(order).to(flat.device)].view_as(pixels)


def rotate(pixels: Tensor, degrees: float) -> Tensor:
    """Rotate counter-clockwise about the centre, bilinear, zeros outside."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], device=pixels.device)
    grid = F.affine_grid(matrix.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
    turned = F.grid_sample(pixels.float(), grid, mode="bilinear", align_corners=False)
    return turned.round().clamp(0, 255).byte()
