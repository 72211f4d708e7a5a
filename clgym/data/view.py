"""A random view of a batch of images: the augmentation of CoTTA and RMT (Wang et al., CVPR 2022).

One draw is shared by the whole batch, as in the published code; all steps run on the device. Images
are enlarged by copies of their edge, moved, blurred and cut to their size again. Only the pixels
that remain are computed, by the formulas of torchvision, with the same bits.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clgym.errors import BadBatch

__all__ = ["random_view"]

_NOISE = 0.005
_BLUR = 2
"""Number of pixels by which the blur's kernel reaches beyond a pixel."""


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def random_view(images: Tensor) -> Tensor:
    """Change colours slightly; rotate, shift and scale a little; blur; flip half of the images.

    Draws come from torch's global generator.

    Args:
        images: float [n, C, S, S] in [0, 1], S at least 4.

    Returns:
        float [n, C, S, S] in [0, 1].

    Raises:
        BadBatch: The images are smaller.
    """
    side = images.shape[-1]
    edge = side // 2
    if edge < _BLUR:
        raise BadBatch(
            expected="images of at least 4 x 4 pixels, of which random views are made",
            found=f"{side} x {side}",
            fix="Give --resize",
        )
    # With bfloat16 the places in an image would be rounded.
    with torch.autocast(images.device.type, enabled=False):
        x = F.pad(_jittered(images.clamp(0, 1)), (edge,) * 4, mode="replicate")
        whole = x.shape[-1]
        angle = _uniform(-15, 15)
        shift = [round(_uniform(-whole / 16, whole / 16)) for _ in range(2)]
        grid = _affine_grid(angle, shift, _uniform(0.9, 1.1), x)
        kept = slice(edge - _BLUR, edge + side + _BLUR)
        x = _sampled(x, grid[:, kept, kept])
        x = F.conv2d(x, _gaussian(_uniform(0.001, 0.5), x), groups=x.shape[1])
    if _uniform(0, 1) < 0.5:
        x = x.flip(-1)
    return (x + _NOISE * torch.randn_like(x)).clamp(0, 1)


def _affine_grid(angle: float, shift: Sequence[int], scale: float, like: Tensor) -> Tensor:
    """Places in an image [1, S, S, 2] from which the pixels of the moved one are taken.

    Args:
        angle: Rotation in degrees, around the centre.
        shift: Shift in pixels, to the right and down.
        scale: Factor of the size.
        like: Images [n, C, S, S] that will be moved.
    """
    side = like.shape[-1]
    cos, sin = (f(math.radians(angle)) / scale for f in (math.cos, math.sin))
    right, down = (-float(pixels) for pixels in shift)
    rows = [cos, sin, cos * right + sin * down], [-sin, cos, -sin * right + cos * down]
    matrix = like.new_tensor(rows).T / like.new_tensor([0.5 * side, 0.5 * side])
    line = torch.linspace(0.5 - side * 0.5, side * 0.5 - 0.5, side, device=like.device)
    places = like.new_ones(1, side, side, 3)
    places[..., 0], places[..., 1] = line, line.unsqueeze(-1)
    return places.view(1, -1, 3).bmm(matrix[None]).view(1, side, side, 2)


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    """Images [n, C, S, S] at the places [1, s, s, 2], with zeros around them."""

    def sample(x: Tensor) -> Tensor:
        places = grid.expand(len(x), -1, -1, -1)
        return F.grid_sample(x, places, padding_mode="zeros", align_corners=False)

    inside = sample(torch.ones_like(images[:1, :1]))  # smaller than 1 where zeros are mixed in
    return sample(images) * inside


def _gaussian(sigma: float, like: Tensor) -> Tensor:
    """Kernel [C, 1, 5, 5] of a blur, for images [n, C, S, S]."""
    line = torch.linspace(-_BLUR, _BLUR, 2 * _BLUR + 1, dtype=like.dtype, device=like.device)
    density = torch.exp(-0.5 * (line / sigma).pow(2))
    density = density / density.sum()
    kernel = torch.mm(density[:, None], density[None, :])
    return kernel.expand(like.shape[1], 1, -1, -1)


def _jittered(x: Tensor) -> Tensor:
    """Change brightness, contrast, saturation, hue and gamma in random order."""
    from torchvision.transforms import functional as tv

    changes = [
        (tv.adjust_brightness, _uniform(0.6, 1.4)),
        (tv.adjust_contrast, _uniform(0.7, 1.3)),
        (tv.adjust_saturation, _uniform(0.5, 1.5)),
        (tv.adjust_hue, _uniform(-0.06, 0.06)),
        (lambda y, gamma: tv.adjust_gamma(y.clamp(1e-8, 1), gamma), _uniform(0.7, 1.3)),
    ]
    for place in torch.randperm(len(changes)).tolist():
        change, amount = changes[place]
        x = change(x, amount)
    return x
