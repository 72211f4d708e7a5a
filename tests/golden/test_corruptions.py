"""Corruptions against the authors' code: equal, or one grey level off on a few pixels."""

import numpy as np
import pytest
from numpy.random import RandomState

from clgym.data.corruption_rules import clipped_zoom, disk, plasma
from clgym.data.corruptions import EXTRA, STANDARD, corrupt

FAMILY = ("corruptions_",)
EXACT = {
    "gaussian_noise",
    "shot_noise",
    "speckle_noise",
    "contrast",
    "pixelate",
    "fog",
    "zoom_blur",
    "glass_blur",
    "gaussian_blur",
    "brightness",
    "saturate",
}
NEEDS_PHOTOGRAPHS = {"frost"}


@pytest.mark.golden("corruptions_cifar*", "corruptions_imagenet*")
def test_each_corruption_gives_the_published_pixels(golden):
    names = [name for name in golden if golden[name].ndim == 4]
    assert names
    assert set(names) <= {*STANDARD, *EXTRA}
    for name in names:
        if name in NEEDS_PHOTOGRAPHS:
            continue
        for severity, expected in zip(golden["severities"], golden[name], strict=True):
            made = corrupt(golden["image"], name, int(severity), RandomState(int(golden["seed"])))
            off = np.abs(made.astype(int) - expected)
            if name == "jpeg_compression":  # depends on the build of libjpeg
                assert off.mean() <= 1, (name, severity)
            else:
                assert off.max() <= (0 if name in EXACT else 1), (name, severity)


@pytest.mark.golden("corruptions_helpers*")
def test_building_blocks_of_the_corruptions(golden):
    image = (golden["image"] / 255.0).astype(np.float32)
    tried = 0
    for name in golden:
        words = name.split("_")
        if name[0] == "m" and len(words) == 2:
            generator = RandomState(int(golden["seed"]))
            made = plasma(int(words[0][1:]), float(words[1][1:]), generator)
        elif words[0] == "disk":
            made = disk(float(words[1]), float(words[2]))
        elif name.startswith("clipped_zoom_"):
            made = clipped_zoom(image, float(words[2]))
        else:
            assert name in ("image", "seed", "versions"), name
            continue
        tried += 1
        np.testing.assert_allclose(made, golden[name], atol=1e-7)
    assert tried
