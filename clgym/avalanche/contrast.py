"""The second view of a batch in supervised contrastive replay."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.data.augment import random_resized_crop_flip
from clgym.data.to_device import to_device

__all__ = ["Views", "shift_hue"]

_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value."""


class Views:
    """A random view of each image: the augmentations of Mai et al., CVPR workshops 2021.

    A view is a random box of 20 to 100 % of the image, resized to the image's size, and mirrored
    with probability 1/2. With probability 0.8 brightness, contrast and saturation are multiplied
    by 0.6 to 1.4 and the hue is turned by at most a tenth of a circle; with probability 0.2 the
    view is grey. The order of the colour changes is drawn once per batch. Images that do not have
    three channels keep saturation and hue.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """One view of each image, float [n, C, H, W]; draws come from torch's global generator.

        Args:
            images: float [n, C, H, W] in [0, 1].
        """
        size = images.shape[-2:]
        generator = torch.default_generator
        x = random_resized_crop_flip(images, max(size), generator, area=(0.2, 1.0))
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bilinear", antialias=True)
        n = len(x)
        jittered = torch.rand(n, generator=generator) < 0.8
        x = torch.where(_each(jittered, x), _jittered(x, generator), x)
        grey = torch.rand(n, generator=generator) < 0.2
        return torch.where(_each(grey, x), _grey(x).expand_as(x), x)


def _each(values: Tensor, like: Tensor) -> Tensor:
    """A value for each image, on the images' device."""
    return to_device(values.view(-1, 1, 1, 1), like.device)


def _grey(x: Tensor) -> Tensor:
    """Grey values [n, 1, H, W] of RGB images; images with other channels stay as they are."""
    if x.shape[1] != 3:
        return x
    weights = to_device(torch.tensor(_GREY, dtype=x.dtype), x.device)
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def _jittered(x: Tensor, generator: torch.Generator) -> Tensor:
    factors = 0.6 + 0.8 * torch.rand(3, len(x), generator=generator)
    turns = 0.2 * torch.rand(len(x), generator=generator) - 0.1
    order = torch.randperm(4, generator=generator)
    for change in order.tolist():
        if change == 3:
            x = shift_hue(x, turns) if x.shape[1] == 3 else x
            continue
        dark = torch.zeros_like(x)
        between = (dark, _grey(x).mean((1, 2, 3), keepdim=True).expand_as(x), _grey(x).expand_as(x))
        x = torch.lerp(between[change], x, _each(factors[change], x)).clamp(0, 1)
    return x


def shift_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of RGB images [n, 3, H, W] by ``turns`` [n], in whole circles."""
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    red, green, blue = x.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + 6 * to_device(turns.view(-1, 1, 1).to(x.dtype), x.device)
    parts = [(start + hue) % 6 for start in (5, 3, 1)]
    return torch.stack([value - chroma * k.minimum(4 - k).clamp(0, 1) for k in parts], 1)
