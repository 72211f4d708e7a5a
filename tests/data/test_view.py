"""The augmentation of CoTTA and RMT, by torchvision's own transforms of whole images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from clgym.data import view
from clgym.data.view import random_view
from clgym.errors import BadBatch


def uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def by_torchvision(images: Tensor) -> Tensor:
    """Every step on whole enlarged images, in the order of the published code."""
    edge, side = images.shape[-1] // 2, images.shape[-1]
    x = view._jittered(images.clamp(0, 1))  # pyright: ignore[reportPrivateUsage]
    x = F.pad(x, (edge,) * 4, mode="replicate")
    reach = x.shape[-1] / 16
    x = tv.affine(
        x,
        angle=uniform(-15, 15),
        translate=[round(uniform(-reach, reach)) for _ in range(2)],
        scale=uniform(0.9, 1.1),
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=[0.0],
    )
    x = tv.gaussian_blur(x, [5, 5], [uniform(0.001, 0.5)] * 2)
    x = x[..., edge : edge + side, edge : edge + side]
    if uniform(0, 1) < 0.5:
        x = x.flip(-1)
    return (x + 0.005 * torch.randn_like(x)).clamp(0, 1)


@pytest.mark.parametrize("shape", [(5, 3, 32, 32), (2, 1, 28, 28), (3, 3, 9, 9), (2, 3, 4, 4)])
@pytest.mark.parametrize("bf16", [False, True])
def test_views_have_the_bits_of_torchvisions_transforms(shape: tuple[int, ...], bf16: bool) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for seed in range(20):
        torch.manual_seed(seed)
        expected, after = by_torchvision(images), torch.get_rng_state()
        torch.manual_seed(seed)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = random_view(images)
        assert torch.equal(found, expected)
        assert torch.equal(torch.get_rng_state(), after)  # later draws are the same, too


def test_images_without_room_for_the_blur_are_refused() -> None:
    with pytest.raises(BadBatch, match="3 x 3"):
        random_view(torch.rand(1, 3, 3, 3))
