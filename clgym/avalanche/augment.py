"""Augmentation of a whole batch at once, each image its own."""

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["crop_flip"]


def crop_flip(images: Tensor, generator: torch.Generator, border: int = 4) -> Tensor:
    """Cut each image at a random place out of itself with a black border; flip half of them.

    Args:
        images: float [n, C, H, W].
        generator: On the CPU, so that a run is the same on every device.
        border: Pixels added at each side before the cut.
    """
    n, channels, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * border + 1, (2, n), generator=generator).to(device)
    flipped = (torch.rand(n, generator=generator) < 0.5).to(device)
    across = torch.arange(width, device=device).expand(n, width)
    across = torch.where(flipped[:, None], width - 1 - across, across) + left[:, None]
    down = torch.arange(height, device=device) + top[:, None]
    wide = pad(images, (border,) * 4)
    at = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return wide[at, channel, down[:, None, :, None], across[:, None, None, :]]
