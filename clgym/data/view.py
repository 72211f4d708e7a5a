"""A random view of a batch of images: the augmentation of CoTTA and RMT (Wang et al., CVPR 2022).

One draw is shared by the whole batch, as in the published code; all steps run on the device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["random_view"]

_NOISE = 0.005


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def random_view(images: Tensor) -> Tensor:
    """Change colours slightly; rotate, shift and scale a little; blur; flip half of the images.

    Draws come from torch's global generator.

    Args:
        images: float [n, C, S, S] in [0, 1].

    Returns:
        float [n, C, S, S] in [0, 1].
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as tv

    side = images.shape[-1]
    x = _jittered(images.clamp(0, 1))
    x = F.pad(x, (side // 2,) * 4, mode="replicate")
    reach = x.shape[-1] / 16
    x = tv.affine(
        x,
        angle=_uniform(-15, 15),
        translate=[round(_uniform(-reach, reach)) for _ in range(2)],
        scale=_uniform(0.9, 1.1),
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=[0.0],
    )
    x = tv.gaussian_blur(x, [5, 5], [_uniform(0.001, 0.5)] * 2)
    top = side // 2
    x = x[..., top : top + side, top : top + side]
    if _uniform(0, 1) < 0.5:
        x = x.flip(-1)
    return (x + _NOISE * torch.randn_like(x)).clamp(0, 1)


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
