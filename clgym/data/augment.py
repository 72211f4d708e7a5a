"""Changes of a whole batch of images at once, on its device: no Python code runs per sample."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["crop_flip", "resize"]


def crop_flip(images: Tensor, generator: torch.Generator, pad: int = 4) -> Tensor:
    """Cut each image at a random place out of itself with a black border; mirror half of them.

    Args:
        images: [n, C, H, W], of any dtype.
        generator: On the CPU, so that a run is the same on every device.
        pad: Pixels of border at each side.
    """
    n, _, height, width = images.shape
    top, left = torch.randint(2 * pad + 1, (2, n), generator=generator).to(images.device)
    mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    # Every place to cut at is a view, so that one gather copies whole rows of pixels.
    places = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    cut = places[torch.arange(n, device=images.device), :, top, left]
    return torch.where(mirrored[:, None, None, None], cut.flip(-1), cut)


def resize(images: Tensor, side: int) -> Tensor:
    """Bring images to ``side`` x ``side``: bilinear, low-pass filtered where they shrink.

    Args:
        images: [n, C, H, W]; uint8 stays uint8 (rounded), float stays float.
        side: In pixels.
    """
    if images.shape[-2:] == (side, side):
        return images
    pixels = images.float() if images.dtype == torch.uint8 else images
    pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return pixels.round().clamp(0, 255).byte() if images.dtype == torch.uint8 else pixels
