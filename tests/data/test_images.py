"""Gathering, and the two transforms that make domains, against NumPy and SciPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crossings import META
from scipy import ndimage

from clgym.data import images as module
from clgym.data.apply_transform import rotate
from clgym.data.images import Images
from clgym.data.read_ahead import read_ahead


@pytest.fixture
def stored(tmp_path: Path) -> tuple[np.ndarray, Images]:
    array = np.random.RandomState(0).randint(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", array)
    return array, Images(tmp_path / "images.npy", None, torch.device("cpu"))


def test_gather_is_indexing(stored: tuple[np.ndarray, Images]) -> None:
    array, images = stored
    rows = np.array([3, 3, 0, 11])
    np.testing.assert_array_equal(images.gather(rows).numpy(), array[rows].transpose(0, 3, 1, 2))


def test_permutation_moves_places_alike_in_every_image_and_channel(
    stored: tuple[np.ndarray, Images],
) -> None:
    array, images = stored
    order = np.random.RandomState(7).permutation(36)
    wanted = array.transpose(0, 3, 1, 2).reshape(12, 3, 36)[:, :, order].reshape(12, 3, 6, 6)
    np.testing.assert_array_equal(images.gather(np.arange(12), ("permute", 7.0)).numpy(), wanted)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_are_exact(turns: int) -> None:
    pixels = torch.from_numpy(
        np.random.RandomState(1).randint(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    )
    wanted = torch.rot90(pixels, turns, (2, 3))
    assert (rotate(pixels, 90.0 * turns).int() - wanted.int()).abs().max() <= 1


def test_other_angles_agree_with_scipy_inside() -> None:
    ramp = np.add.outer(np.arange(21.0) * 5, np.arange(21.0) * 3)
    pixels = torch.from_numpy(ramp.astype(np.uint8))[None, None]
    wanted = ndimage.rotate(ramp, 30, reshape=False, order=1)
    found = rotate(pixels, 30.0)[0, 0].numpy().astype(float)
    inside = np.hypot(*np.mgrid[-10:11, -10:11]) < 8
    assert np.abs(found - wanted)[inside].max() <= 1


@pytest.mark.parametrize("at_once", [1, 100, 500, 10**6])
def test_parts_that_are_read_ahead_are_the_whole(
    at_once: int, stored: tuple[np.ndarray, Images], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    array, _ = stored
    rows = np.array([3, 3, 0, 11, 7])
    expected = array[rows].transpose(0, 3, 1, 2)
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    calls: list[int] = []

    def ahead(parts: list[np.ndarray], read: Any, _: torch.device) -> Any:
        calls.append(len(parts))
        return read_ahead(parts, read, META)

    monkeypatch.setattr(module, "read_ahead", ahead)
    images = Images(tmp_path / "images.npy", None, torch.device("cpu"))
    np.testing.assert_array_equal(images.gather(rows).numpy(), expected)
    assert calls == {1: [5], 100: [5], 500: [2], 10**6: []}[at_once]  # an image has 108 bytes
    np.testing.assert_array_equal(images.finish(images.read(rows)).numpy(), expected)
