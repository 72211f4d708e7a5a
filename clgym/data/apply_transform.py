"""Fixed transformations of a stream's images, which `clgym.scenario.Transform` describes.

The result for an image does not depend on its batch, to the bit. Therefore operations on a whole
batch are exact or act on single pixels; all others are called with one image at a time.
"""

import functools
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.data.generators import untouched_generators
from clgym.data.to_device import to_device
from clgym.errors import BadPlugin

__all__ = ["apply_transform", "permute_pixels", "rotate"]

_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R 601)."""


def apply_transform(pixels: Tensor, kind: str, amount: float, white: int = 255) -> Tensor:
    """Transform images as a stream prescribes.

    Args:
        pixels: uint8 [n, C, H, W].
        kind: Name of a transformation, or ``PATH.py:FUNCTION#SHA256`` with the hash of the file.
        amount: Amount of the transformation; see `clgym.scenario.Transform`.
        white: Largest value of a pixel.

    Returns:
        uint8 [n, C, H, W].

    Raises:
        BadPlugin: The function is missing, fails, draws random numbers, or does not return images
            of this shape.
    """
    if kind == "permute":
        return permute_pixels(pixels, amount)
    if kind == "rotate":
        return rotate(pixels, amount)
    if (known := _KNOWN.get(kind)) is not None:
        return known(pixels.float(), amount).round_().clamp_(0, white).byte()
    if not len(pixels):
        return pixels
    return _by_function(pixels, kind, amount, white)


def permute_pixels(pixels: Tensor, seed: float) -> Tensor:
    """Permute the places of uint8 images [n, C, H, W], equally in every image and channel.

    It is NumPy's legacy permutation of H * W under ``seed``, as permuted MNIST is usually made.
    """
    flat = pixels.flatten(2)
    order = np.random.RandomState(int(seed)).permutation(flat.shape[-1])
    return flat[..., to_device(torch.from_numpy(order), flat.device)].view_as(pixels)


def rotate(pixels: Tensor, degrees: float) -> Tensor:
    """Rotate uint8 images [n, C, H, W] counter-clockwise about the centre; zeros outside."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = to_device(torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]), pixels.device)
    grid = F.affine_grid(matrix.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
    turned = F.grid_sample(pixels.float(), grid, mode="bilinear", align_corners=False)
    return turned.round().clamp(0, 255).byte()


def _brightness(pixels: Tensor, factor: float) -> Tensor:
    return pixels * factor


def _contrast(pixels: Tensor, factor: float) -> Tensor:
    """Scale the distance to the image's mean grey level."""
    # A sum of whole numbers is the same in any order.
    levels = _grey(pixels).round().long()
    mean = (levels.sum((1, 2, 3)).double() / levels[0].numel()).float()[:, None, None, None]
    return mean + (pixels - mean) * factor


def _colour(pixels: Tensor, factor: float) -> Tensor:
    """Scale the distance to the grey image: 0 is grey, images of one channel stay as they are."""
    grey = _grey(pixels)
    return grey + (pixels - grey) * factor


def _grey(pixels: Tensor) -> Tensor:
    """Grey values [n, 1, H, W] of RGB; images with other channels count as grey in each."""
    if pixels.shape[1] != 3:
        return pixels
    red, green, blue = (pixels[:, c, None] * weight for c, weight in enumerate(_GREY))
    return red + green + blue


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    """Gaussian blur over three standard deviations to each side, mirrored at the border."""
    radius = int(3 * sigma + 0.5)
    offsets = range(-radius, radius + 1)
    weights = np.exp(-0.5 * np.square(np.array(offsets) / max(sigma, 1e-6)))
    for dim in (2, 3):
        places = torch.arange(pixels.shape[dim], device=pixels.device)
        # A sum of shifted images, not a convolution, whose bits may depend on the batch.
        shifted = (
            pixels.index_select(dim, _mirrored(places + offset, pixels.shape[dim])) * weight
            for offset, weight in zip(offsets, (weights / weights.sum()).tolist(), strict=True)
        )
        pixels = functools.reduce(torch.add, shifted)
    return pixels


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Places inside 0 to side - 1; those outside are mirrored at the outermost pixels."""
    around = places.remainder(max(2 * (side - 1), 1))
    return torch.minimum(around, 2 * (side - 1) - around) if side > 1 else torch.zeros_like(places)


def _resolution(pixels: Tensor, fraction: float) -> Tensor:
    """Shrink each image to a fraction of its sides, and enlarge it to its old size; bilinear."""
    size = list(pixels.shape[-2:])
    small = [max(1, round(fraction * side)) for side in size]
    found = torch.empty_like(pixels)
    for row, image in enumerate(pixels.contiguous()):
        shrunk = F.interpolate(image[None], small, mode="bilinear", antialias=True)
        found[row] = F.interpolate(shrunk, size, mode="bilinear", antialias=True)[0]
    return found


_KNOWN: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "colour": _colour,
    "blur": _blur,
    "resolution": _resolution,
}


def _by_function(pixels: Tensor, kind: str, amount: float, white: int) -> Tensor:
    """Call the function of a scenario's author with one image after the other."""
    function, name = _function(kind), kind.partition("#")[0].rpartition(":")[2]
    images = pixels.contiguous().float() / white
    with torch.no_grad(), untouched_generators(pixels.device):
        changed = torch.cat([_called(function, name, image[None], amount) for image in images])
        again = _called(function, name, images[:1], amount)
    if not bool(torch.isfinite(changed).all()):
        raise _refused(name, "finite values", "NaN or infinity")
    if not torch.equal(again, changed[:1]):
        raise _refused(name, "the same image each time it is called", "another one", "no draws")
    return (changed * white).round().clamp(0, white).byte()


def _called(
    function: Callable[[Tensor, float], Any], name: str, image: Tensor, amount: float
) -> Tensor:
    try:
        found = function(image.clone(), amount)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise _refused(name, f"images of shape {tuple(image.shape)}", found) from error
    if not isinstance(found, Tensor) or found.shape != image.shape:
        told = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise _refused(name, f"images of shape {tuple(image.shape)}", told)
    return found.float()


def _refused(name: str, expected: str, found: str, rule: str = "the same shape") -> BadPlugin:
    return BadPlugin(
        expected=f"the transformation {name} to return {expected}",
        found=found,
        fix=f"Write a function of images [n, C, H, W] in [0, 1] and the amount: {rule}, and "
        "nothing kept between two calls",
    )


@functools.cache
def _function(kind: str) -> Callable[[Tensor, float], Any]:
    """The function ``PATH.py:FUNCTION#SHA256``.

    Raises:
        BadPlugin: It cannot be imported, or its file has changed since the stream was cut.
    """
    place, _, digest = kind.partition("#")
    path, _, name = place.rpartition(":")
    try:
        text = Path(path).read_bytes()
        if hashlib.sha256(text).hexdigest() != digest:
            raise ImportError("the file has changed since the stream was cut")
        module = ModuleType(f"clgym_transform_{digest[:12]}")
        module.__file__ = path
        # The bytes that were hashed, since the file may have changed by now.
        exec(compile(text, path, "exec"), vars(module))  # nosec B102 # the scenario's own code
        return getattr(module, name)
    except Exception as error:
        raise BadPlugin(
            expected=f"a function {name} in {Path(path).name}",
            found=f"{type(error).__name__}: {error}",
            fix="Correct the file or the name after the colon; the file imports installed packages "
            "only, since the stream's digest covers this file alone",
        ) from error
