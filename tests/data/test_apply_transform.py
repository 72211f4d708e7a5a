"""Transformations of a stream's images, against Pillow and SciPy; the same bits in any batch."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import ndimage

from clgym.data.apply_transform import apply_transform
from clgym.data.images import Images
from clgym.data.label_noise import noisy_labels
from clgym.errors import BadPlugin, BadStream
from clgym.scenario import Step, Transform

KINDS = [
    ("permute", 7.0), ("rotate", 33.0), ("brightness", 0.4), ("brightness", 1.7),
    ("contrast", 0.3), ("colour", 0.0), ("colour", 1.5), ("blur", 0.8), ("blur", 5.0),
    ("resolution", 0.3),
]  # fmt: skip


def photos(count: int, side: int = 24, seed: int = 0) -> np.ndarray:
    """uint8 [n, H, W, 3] without flat areas."""
    noise = np.random.default_rng(seed).random((count, side, side, 3))
    return (ndimage.gaussian_filter(noise, (0, 1, 1, 0)) * 400 - 70).clip(0, 255).astype(np.uint8)


def transformed(images: np.ndarray, kind: str, amount: float, white: int = 255) -> np.ndarray:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return apply_transform(pixels, kind, amount, white).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("kind", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("colour", ImageEnhance.Color),
    ],
)
@pytest.mark.parametrize("factor", [0.0, 0.35, 1.0, 1.8])
def test_light_and_colour_are_pillows_up_to_rounding(
    kind: str, enhance: type, factor: float
) -> None:
    images = photos(3)
    wanted = [np.asarray(enhance(Image.fromarray(image)).enhance(factor)) for image in images]
    found = transformed(images, kind, factor)
    # Pillow cuts fractions off, twice where it rounds its grey values: at most two levels.
    assert np.abs(found.astype(int) - np.stack(wanted).astype(int)).max() <= 2
    if factor == 1:
        np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("sigma", [0.0, 0.8, 2.5, 9.0])
def test_blur_is_scipys(sigma: float) -> None:
    images = photos(2, side=20)
    wanted = [
        ndimage.gaussian_filter(i.astype(float), (sigma, sigma, 0), mode="mirror", truncate=3)
        for i in images
    ]
    assert np.abs(transformed(images, "blur", sigma) - np.stack(wanted)).max() <= 0.51


def test_a_lower_resolution_is_pillows() -> None:
    images = photos(2)
    small = [Image.fromarray(i).resize((8, 8), Image.Resampling.BILINEAR) for i in images]
    wanted = [np.asarray(i.resize((24, 24), Image.Resampling.BILINEAR), int) for i in small]
    assert np.abs(transformed(images, "resolution", 1 / 3) - np.stack(wanted)).max() <= 2
    np.testing.assert_array_equal(transformed(images, "resolution", 1.0), images)


def test_white_is_the_largest_value_of_the_source() -> None:
    digits = photos(4)[..., :1] // 16
    bright = transformed(digits, "brightness", 3.0, white=16)
    np.testing.assert_array_equal(bright, np.minimum(digits.astype(int) * 3, 16))


@pytest.mark.parametrize(("kind", "amount"), KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_has_the_same_bits_in_every_batch(
    kind: str, amount: float, channels: int, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", photos(67, side=17)[..., :channels])
    images = Images(tmp_path / "images.npy", None, torch.device("cpu"))
    whole = images.gather(np.arange(67), (kind, amount))
    for size in (1, 5, 32):
        parts = np.array_split(np.arange(67), range(size, 67, size))
        found = [images.gather(part, (kind, amount)) for part in parts]
        assert torch.equal(torch.cat(found), whole), size


def own(folder: Path, body: str) -> str:
    """A file with a function `change`; its kind as the learner is told it."""
    path = folder / "changes.py"
    path.write_text(f"import torch\n\ndef change(images, amount):\n    {body}\n")
    return f"{path}:change#{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_function_of_a_file_gets_images_in_0_to_1(tmp_path: Path) -> None:
    images = photos(5)
    found = transformed(images, own(tmp_path, "return (1 - images) * amount"), 0.5)
    assert np.abs(found - (255 - images.astype(float)) * 0.5).max() < 0.501


def test_a_function_cannot_mix_the_images_of_a_batch(tmp_path: Path) -> None:
    images = photos(5)
    kind = own(tmp_path, "return images - images.mean((0, 1, 2, 3), keepdim=True) + amount")
    whole = transformed(images, kind, 0.5)
    alone = [transformed(images[i : i + 1], kind, 0.5) for i in range(5)]
    np.testing.assert_array_equal(whole, np.concatenate(alone))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return images + amount * torch.rand_like(images)", "another one"),
        ("return images[:, :, 1:]", "shape"),
        ("return None", "NoneType"),
        ("return images / 0", "NaN"),
        ("raise KeyError('x')", "KeyError"),
    ],
)
def test_functions_that_are_no_fixed_transformation_are_refused(
    tmp_path: Path, body: str, words: str
) -> None:
    state = torch.get_rng_state()
    with pytest.raises(BadPlugin, match="change") as error:
        transformed(photos(2), own(tmp_path, body), 0.5)
    assert words in error.value.found
    assert torch.equal(torch.get_rng_state(), state)


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    kind = own(tmp_path, "return images")
    own(tmp_path, "return images * 0")
    with pytest.raises(BadPlugin, match="changed since the stream was cut"):
        transformed(photos(2), kind, 1.0)


def test_a_file_counts_by_its_content_not_its_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first = own(tmp_path, "return images").partition("#")[0]
    second = own(tmp_path / "elsewhere", "return images").partition("#")[0]
    assert Transform(first, 1.0).facts == Transform(second, 1.0).facts
    before = Transform(first, 1.0).facts
    own(tmp_path, "return images * 0.5")
    assert Transform(first, 1.0).facts != before


@pytest.mark.parametrize(
    ("kind", "amount"),
    [
        ("brightnes", 1.0), ("brightness", -0.1), ("blur", float("nan")), ("resolution", 0.0),
        ("resolution", 1.5), ("permute", 0.5), ("permute", -1.0), ("changes.py:darken", 1.0),
        ("/no/such/changes.py:darken", 1.0),
    ],
)  # fmt: skip
def test_unknown_kinds_and_amounts_are_refused(kind: str, amount: float) -> None:
    with pytest.raises(BadStream):
        Transform(kind, amount)


def test_noisy_labels_are_a_fraction_of_other_classes() -> None:
    labels = np.random.default_rng(0).choice([2, 5, 7], 4000).astype(np.int64)
    noisy = noisy_labels(labels, (2, 5, 7), 0.25, seed=3)
    wrong = noisy != labels
    assert wrong.sum() == 1000
    assert set(noisy.tolist()) == {2, 5, 7}
    for true in (2, 5, 7):  # each other class with the same chance: 1/2, within 5 deviations
        others = noisy[wrong & (labels == true)]
        count = (others == np.unique(others)[0]).sum()
        assert abs(count - len(others) / 2) < 5 * np.sqrt(len(others)) / 2
    np.testing.assert_array_equal(noisy_labels(labels, (2, 5, 7), 0.25, seed=3), noisy)
    assert (noisy_labels(labels, (2, 5, 7), 0.25, seed=4) != noisy).any()
    np.testing.assert_array_equal(noisy_labels(labels, (2, 5, 7), 0.0, seed=3), labels)


def test_labels_of_other_classes_or_another_number_are_refused() -> None:
    rows = np.arange(3)
    for labels in (np.array([0, 1]), np.array([0, 1, 2]), np.array([0.0, 1.0, 1.0])):
        with pytest.raises(BadStream):
            Step(rows, rows, (0, 1), rows[:0], labels=labels)
    with pytest.raises(BadStream, match="fraction"):
        noisy_labels(np.zeros(3, np.int64), (0,), 0.5, seed=0)
