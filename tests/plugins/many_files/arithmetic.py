"""What an image's brightness is."""

from torch import Tensor


def brightness(images: Tensor) -> Tensor:
    """Mean pixel [n] of images [n, C, H, W]."""
    return images.mean((1, 2, 3))
