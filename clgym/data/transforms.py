"""Transforms of torchvision, and functions of one image, as augmentations of a batch.

An augmentation takes a batch and a generator (`clgym.data.augment`). torchvision's transforms draw
once per call, so that all images of a batch would get the same crop and flip. `batched` gives every
image its own draws, and applies transforms without draws to the whole batch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from clgym.data.experience import Augment
from clgym.data.to_device import to_device

__all__ = ["batched"]


def batched(transform: Callable[[Tensor], Tensor]) -> Augment:
    """A transform as an augmentation of a batch, whose draws depend on the generator only.

    Args:
        transform: A transform of ``torchvision.transforms.v2``, a ``Compose`` of several, or any
            function of one image [C, H, W] that draws from torch's global generator.

    Returns:
        A function of images [n, C, H, W] and a CPU generator. Parts without draws, and flips, run
        on the batch; all others image by image.
    """
    parts = tuple(_parts(transform))

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        with torch.random.fork_rng(devices=()):
            # Not `torch.manual_seed`, which would seed the generators of GPUs as well.
            torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            for part in parts:
                images = part(images)
        return images

    return augment


def _parts(transform: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """The transform as functions of a batch, to be applied one after the other."""
    from torchvision.transforms import v2

    if type(transform) in (v2.Compose, torch.nn.Sequential):
        inner = transform.transforms if isinstance(transform, v2.Compose) else transform
        for part in inner:
            yield from _parts(part)
    elif type(transform) in (v2.RandomHorizontalFlip, v2.RandomVerticalFlip):
        dim = -1 if isinstance(transform, v2.RandomHorizontalFlip) else -2
        yield lambda images: _flipped(images, transform.p, dim)
    elif _draws_nothing(transform):
        yield transform
    else:
        yield lambda images: torch.stack([transform(image) for image in images])


def _draws_nothing(transform: Any) -> bool:
    """Whether a transform of torchvision's is known to be the same for every image."""
    from torchvision.transforms import v2

    fixed = (v2.CenterCrop, v2.Grayscale, v2.Normalize, v2.Pad, v2.Resize, v2.ToDtype)
    return type(transform) in fixed


def _flipped(images: Tensor, share: float, dim: int) -> Tensor:
    chosen = torch.rand(len(images)) < share
    chosen = to_device(chosen, images.device)[:, None, None, None]
    return torch.where(chosen, images.flip(dim), images)
