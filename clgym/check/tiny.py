"""Tiny sources for the checks: a few real digits per class, in any image shape. No torch."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CLASSES", "MAX_VALUE", "Tiny", "workspace"]

CLASSES = 6
MAX_VALUE = 255


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A temporary folder, with the cache inside it, so that checks leave nothing behind."""
    before = os.environ.get("CLGYM_CACHE")
    with tempfile.TemporaryDirectory(prefix="clgym-check-") as name:
        os.environ["CLGYM_CACHE"] = f"{name}/cache"
        try:
            yield Path(name)
        finally:
            os.environ.pop("CLGYM_CACHE")
            if before is not None:
                os.environ["CLGYM_CACHE"] = before


class Tiny:
    """Writes sources of digits 0 to 5 and returns names for `load_source`."""

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        """Write into ``folder``; images have ``shape``: channels, height, width."""
        self._folder, self._shape = folder, shape
        self._names: dict[tuple[int, ...], str] = {}

    def name(self, train: Sequence[int] | int = 8, test: int = 4) -> str:
        """Name of a source with ``train`` training images per class, or for each of the six."""
        counts = (train,) * CLASSES if isinstance(train, int) else tuple(train)
        key = (*counts, test)
        if key not in self._names:
            place = self._folder / f"tiny-{len(self._names)}"
            place.mkdir(parents=True)
            self._write(place, counts, test)
            self._names[key] = f"npz:{place}"
        return self._names[key]

    def _write(self, place: Path, counts: tuple[int, ...], test: int) -> None:
        pixels, labels = _digits(self._shape)
        rows = [np.flatnonzero(labels == label) for label in range(CLASSES)]
        classes = np.array([f"digit-{label}" for label in range(CLASSES)])
        for part in ("train", "test"):
            taken = [
                r[:test] if part == "test" else r[test : test + n]
                for r, n in zip(rows, counts, strict=True)
            ]
            here = np.concatenate(taken)
            np.savez(
                place / f"{part}.npz", images=pixels[here], labels=labels[here], classes=classes
            )


def _digits(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, H, W, C] from 0 to 240 by nearest neighbour, and labels."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    channels, height, width = shape
    down, across = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    images = 15 * data.images.astype(np.uint8)[:, down][:, :, across]
    return np.repeat(images[..., None], channels, axis=3), data.target.astype(np.int64)
