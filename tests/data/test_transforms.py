"""Transforms of torchvision as augmentations: each image has its own draws, from the generator."""

import pytest
import torch
from torchvision.transforms import v2

from clgym.data.transforms import batched

IMAGES = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def drawn(transform: object, seed: int = 0) -> torch.Tensor:
    return batched(transform)(IMAGES, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def test_every_image_has_a_crop_of_its_own() -> None:
    """A batch that goes through torchvision as a whole gets one crop for all."""
    crop = v2.RandomCrop(5)
    found = drawn(crop)
    places = set()
    for image, cut in zip(IMAGES, found, strict=True):
        windows = image.unfold(1, 5, 1).unfold(2, 5, 1)
        (place,) = [
            (y, x) for y in range(4) for x in range(4) if torch.equal(windows[:, y, x], cut)
        ]
        places.add(place)
    assert len(places) > 8


def test_flips_run_on_the_batch_and_flip_their_share() -> None:
    found = drawn(v2.RandomHorizontalFlip(0.5))
    flipped = torch.tensor([torch.equal(a.flip(-1), b) for a, b in zip(IMAGES, found, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(IMAGES, found, strict=True)])
    assert (flipped ^ kept).all() and 16 < int(flipped.sum()) < 48
    assert torch.equal(drawn(v2.RandomVerticalFlip(1.0)), IMAGES.flip(-2))


@pytest.mark.parametrize(
    "transform",
    [v2.Normalize([0.5] * 3, [0.2] * 3), v2.Grayscale(3), v2.Resize(4), v2.CenterCrop(6)],
)
def test_what_draws_nothing_runs_once_and_gives_the_same(transform, monkeypatch) -> None:
    calls = []
    forward = type(transform).forward
    monkeypatch.setattr(
        type(transform), "forward", lambda self, x: calls.append(len(x)) or forward(self, x)
    )
    found = drawn(v2.Compose([transform]))
    assert calls == [64]
    torch.testing.assert_close(found, torch.stack([transform(image) for image in IMAGES]))


def test_draws_depend_on_the_generator_alone() -> None:
    transform = v2.Compose([v2.RandomCrop(8, padding=2), v2.ColorJitter(0.4), v2.RandomErasing()])
    first = drawn(transform)
    torch.rand(5)
    before = torch.get_rng_state()
    assert torch.equal(first, drawn(transform)) and not torch.equal(first, drawn(transform, 1))
    assert torch.equal(before, torch.get_rng_state())


def test_a_function_of_one_image() -> None:
    found = drawn(lambda image: image * torch.rand(1))
    factors = (found / IMAGES).flatten(1)
    assert len(factors[:, 0].unique()) == 64
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
