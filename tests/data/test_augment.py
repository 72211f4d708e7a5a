"""Batched augmentation against loops over samples and pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clgym.data.augment import (
    brightness,
    crop_flip,
    crop_flip_brightness,
    resize,
    resized_crop_flip,
)


def batch(seed, n, channels, height, width):
    generator = np.random.default_rng(seed)
    return generator.integers(1, 256, (n, channels, height, width), dtype=np.uint8)


def crop_one(image, top, left, mirrored, pad):
    """One sample by the definition: pixel (r, c) comes from (r + top - pad, c' + left - pad)."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for r in range(height):
        for c in range(width):
            at = r + top - pad, (width - 1 - c if mirrored else c) + left - pad
            if 0 <= at[0] < height and 0 <= at[1] < width:
                out[:, r, c] = image[:, at[0], at[1]]
    return out


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 4),
)
def test_crop_flip_is_the_loop(seed, n, channels, height, width, pad):
    images = batch(seed, n, channels, height, width)
    ours = crop_flip(torch.from_numpy(images), torch.Generator().manual_seed(seed), pad).numpy()
    draw = torch.Generator().manual_seed(seed)
    top, left = torch.randint(2 * pad + 1, (2, n), generator=draw).tolist()
    mirrored = (torch.rand(n, generator=draw) < 0.5).tolist()
    theirs = [crop_one(images[i], top[i], left[i], mirrored[i], pad) for i in range(n)]
    np.testing.assert_array_equal(ours, np.stack(theirs))


def test_crop_flip_reaches_every_place_alike():
    pad, n = 1, 18000
    images = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3).expand(n, -1, -1, -1)
    out = crop_flip(images, torch.Generator().manual_seed(0), pad).flatten(1).numpy()
    _, counts = np.unique(out, axis=0, return_counts=True)
    assert len(counts) == 18  # 9 places, mirrored or not
    # Chi-squared with 17 degrees of freedom exceeds 40.8 once in a thousand.
    assert ((counts - n / 18) ** 2 / (n / 18)).sum() < 40.8


def test_crop_flip_keeps_its_input_and_depends_on_the_generator_alone():
    images = torch.from_numpy(batch(0, 5, 3, 8, 8))
    before = images.clone()
    first, second = (crop_flip(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(images, before)
    as_float = crop_flip(images.float(), torch.Generator().manual_seed(3))
    assert torch.equal(as_float.byte(), first)


def weights(size, side):
    """Rows of the triangle filter: half-pixel centres, widened by the scale where it shrinks."""
    scale = size / side
    support = max(scale, 1.0)
    rows = np.zeros((side, size))
    for i in range(side):
        for j in range(size):
            rows[i, j] = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * scale) / support)
    return rows / rows.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 14))
def test_resize_is_the_triangle_filter(seed, height, width, side):
    images = batch(seed, 2, 3, height, width)
    down, across = weights(height, side), weights(width, side)
    expected = np.stack([[down @ c @ across.T for c in image] for image in images.astype(float)])
    as_float = resize(torch.from_numpy(images).double(), side).numpy()
    np.testing.assert_allclose(as_float, expected, atol=1e-9)
    as_bytes = resize(torch.from_numpy(images), side)
    assert as_bytes.dtype == torch.uint8
    assert np.abs(as_bytes.numpy() - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_resize_to_the_same_side_changes_nothing(dtype):
    images = torch.from_numpy(batch(0, 2, 1, 5, 5)).to(dtype)
    assert torch.equal(resize(images, 5), images)


def test_brightness_is_pillow_s() -> None:
    """Pillow cuts the fractions off, with the factor in single precision as ours is."""
    from PIL import Image, ImageEnhance

    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (40, 3, 6, 5), generator=generator, dtype=torch.uint8)
    found = brightness(pixels.float() / 255, torch.Generator().manual_seed(1))
    draws = torch.rand(40, generator=torch.Generator().manual_seed(1))
    factors = 1 - 63 / 255 + 2 * 63 / 255 * draws
    assert float(factors.min()) < 0.8 and float(factors.max()) > 1.2
    for image, factor, bright in zip(pixels, factors, found, strict=True):
        array = image.permute(1, 2, 0).numpy()
        wanted = np.asarray(ImageEnhance.Brightness(Image.fromarray(array)).enhance(float(factor)))
        levels = (bright * 255).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(levels, wanted)


def test_the_protocol_s_crops_come_before_the_brightness() -> None:
    images = torch.full((200, 1, 8, 8), 100 / 255)
    found = crop_flip_brightness(images, torch.Generator().manual_seed(0))
    levels = [image[image > 0].unique() for image in found]
    assert all(len(level) == 1 for level in levels), "one factor for each image"
    spread = torch.cat(levels) * 255
    assert 75 <= float(spread.min()) < 80 and 120 < float(spread.max()) <= 125
    assert any((image == 0).any() for image in found), "the border stays black"


def test_the_resized_crop_keeps_the_side() -> None:
    images = torch.rand(3, 3, 12, 12)
    found = resized_crop_flip(images, torch.Generator().manual_seed(0))
    assert found.shape == images.shape and not torch.equal(found, images)
