"""Augmentations of a whole batch on its device: no Python code runs per sample."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.data.to_device import to_device

__all__ = [
    "AUGMENTATIONS",
    "brightness",
    "crop_flip",
    "crop_flip_brightness",
    "random_view",
    "random_resized_crop_flip",
    "resize",
    "resized_crop_flip",
]


def crop_flip(images: Tensor, generator: torch.Generator, pad: int = 4) -> Tensor:
    """Crop each image at a random place with a black border; flip half of them.

    Args:
        images: [n, C, H, W], of any dtype.
        generator: Generator on the CPU, so that a run is the same on every device.
        pad: Width of the border at each side in pixels.

    Returns:
        [n, C, H, W], of the same dtype.
    """
    n, _, height, width = images.shape
    top, left = to_device(torch.randint(2 * pad + 1, (2, n), generator=generator), images.device)
    mirrored = to_device(torch.rand(n, generator=generator) < 0.5, images.device)
    # Every place to cut at is a view, so that one gather copies whole rows of pixels.
    places = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    cut = places[torch.arange(n, device=images.device), :, top, left]
    return torch.where(mirrored[:, None, None, None], cut.flip(-1), cut)


def brightness(images: Tensor, generator: torch.Generator, amount: float = 63 / 255) -> Tensor:
    """Multiply each image by its own factor from U(1 - amount, 1 + amount).

    The result is rounded down to 8 bits, as in Pillow's change of brightness.

    Args:
        images: float [n, C, H, W] in [0, 1].
        generator: Generator on the CPU, so that a run is the same on every device.
        amount: Largest relative change.
    """
    factor = 1 - amount + 2 * amount * torch.rand(len(images), generator=generator)
    factor = to_device(factor.to(images.dtype), images.device)
    levels = (images * 255).round() * factor[:, None, None, None]
    return levels.floor().clamp(0, 255) / 255


def crop_flip_brightness(images: Tensor, generator: torch.Generator) -> Tensor:
    """`crop_flip`, then `brightness`: augmentation of CIFAR in PyCIL and protocols based on it."""
    return brightness(crop_flip(images, generator), generator)


def resize(images: Tensor, side: int) -> Tensor:
    """Resize images to ``side`` x ``side``: bilinear, with a low-pass filter where they shrink.

    Args:
        images: [n, C, H, W]; uint8 stays uint8 (rounded), float stays float.
        side: Side in pixels.
    """
    if images.shape[-2:] == (side, side):
        return images
    pixels = images.float() if images.dtype == torch.uint8 else images
    pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return pixels.round().clamp(0, 255).byte() if images.dtype == torch.uint8 else pixels


def random_resized_crop_flip(
    images: Tensor,
    side: int,
    generator: torch.Generator,
    area: tuple[float, float] = (0.05, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Crop a random box of each image, resize it to ``side``; flip half of them.

    The boxes are drawn as torchvision's RandomResizedCrop does: the first of ten draws that lies
    inside the image, else all of it.

    Args:
        images: float [n, C, H, W].
        side: Side of the result in pixels.
        generator: Generator on the CPU, so that a run is the same on every device.
        area: Smallest and largest fraction of the image's area that a box covers.
        ratio: Smallest and largest ratio of a box's width to its height.

    Returns:
        float [n, C, side, side].
    """
    n, _, height, width = images.shape
    top, left, high, wide = _boxes(n, height, width, area, ratio, generator)
    mirrored = to_device(torch.rand(n, generator=generator) < 0.5, images.device)
    cut = _pick(images, top, high, side, dim=2)
    cut = _pick(cut, left, wide, side, dim=3)
    return torch.where(mirrored[:, None, None, None], cut.flip(-1), cut)


def resized_crop_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """`random_resized_crop_flip` to the images' own side, at torchvision's default areas."""
    return random_resized_crop_flip(images, images.shape[-1], generator, (0.08, 1.0))


def random_view(
    images: Tensor, generator: torch.Generator, crop: float, flip: bool, jitter: float
) -> Tensor:
    """Crop each image at random and resize it back, flip half of them, change their brightness.

    Args:
        images: float [n, C, H, W] in [0, 1].
        generator: Generator on the CPU, so that a run is the same on every device.
        crop: Smallest fraction of the image's area that the crop shows; 1: no crop.
        flip: Whether to flip horizontally.
        jitter: Largest relative change of brightness and of contrast; 0: none.
    """
    n, _, height, width = images.shape
    if crop < 1:
        boxes = _boxes(n, height, width, (crop, 1.0), (3 / 4, 4 / 3), generator)
        top, left, tall, wide = boxes
        images = _pick(_pick(images, top, tall, height, dim=2), left, wide, width, dim=3)
    if flip:
        mirrored = to_device(torch.rand(n, generator=generator) < 0.5, images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if jitter:
        drawn = 1 + jitter * (2 * torch.rand(2, n, 1, 1, 1, generator=generator) - 1)
        light, contrast = to_device(drawn.to(images.dtype), images.device)
        images = images * light
        grey = images.mean((1, 2, 3), keepdim=True)
        images = (grey + contrast * (images - grey)).clamp(0, 1)
    return images


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "none": None,
    "crop-flip": crop_flip,
    "crop-flip-brightness": crop_flip_brightness,
    "resized-crop-flip": resized_crop_flip,
}
"""Augmentations of training batches that an option names."""


def _boxes(
    n: int,
    height: int,
    width: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of n boxes, int64 [n] each, on the CPU."""
    uniform = torch.rand(4, n, 10, generator=generator, dtype=torch.float64)
    target = height * width * (area[0] + (area[1] - area[0]) * uniform[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = torch.exp(low + (high - low) * uniform[1])
    wide, tall = (target * shape).sqrt().round().long(), (target / shape).sqrt().round().long()
    inside = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = inside.long().argmax(1)
    chosen, good = (torch.arange(n), first), inside.any(1)
    wide = torch.where(good, wide[chosen], width)
    tall = torch.where(good, tall[chosen], height)
    top = (uniform[2][chosen] * (height - tall + 1)).long()
    left = (uniform[3][chosen] * (width - wide + 1)).long()
    return top, left, tall, wide


def _pick(images: Tensor, start: Tensor, length: Tensor, side: int, dim: int) -> Tensor:
    """Resize ``length`` [n] pixels from ``start`` [n] on to ``side`` along ``dim``, linearly."""
    steps = torch.arange(side, dtype=torch.float64) + 0.5
    place = (steps * length[:, None] / side - 0.5).clamp(min=0).minimum(length[:, None] - 1.0)
    low = place.floor().long()
    high = (low + 1).minimum(length[:, None] - 1)
    share = to_device((place - low).to(images.dtype), images.device)
    shape = [len(images), 1, 1, 1]
    shape[dim] = side
    sizes = list(images.shape)
    sizes[dim] = side
    ends = [
        images.gather(dim, to_device(start[:, None] + end, images.device).view(shape).expand(sizes))
        for end in (low, high)
    ]
    return torch.lerp(ends[0], ends[1], share.view(shape))
