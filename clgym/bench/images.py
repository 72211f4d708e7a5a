"""Random images in a file for benchmarks, whose costs do not depend on the content of images."""

from pathlib import Path

import numpy as np

__all__ = ["CLASSES", "write_images"]

CLASSES = 10


def write_images(
    folder: Path, side: int, channels: int, train: int, test: int, classes: int = CLASSES
) -> str:
    """Write a source of random images and return its name.

    Args:
        folder: New folder of the files.
        side: Height and width in pixels.
        channels: 1 or 3.
        train: Number of training images, over all classes.
        test: Number of test images.
        classes: Number of classes.
    """
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        images = draws.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
        labels = np.arange(count) % classes
        names = np.array([f"class-{label}" for label in range(classes)])
        np.savez(folder / f"{split}.npz", images=images, labels=labels, classes=names)
    return f"npz:{folder}"
