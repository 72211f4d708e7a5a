"""Drawn stripes, from another distribution."""

from pathlib import Path

import numpy as np

from clgym.data.imageset import ImageSet, Labelled


class Stripes(ImageSet):
    """Two directions, with noise."""

    licence, origin = "CC0", "drawn by this file"
    classes = ("across", "down")

    def read(self, folder: Path) -> tuple[Labelled, None]:
        """A hundred images; the test split is cut by clgym."""
        labels = np.arange(100) % 2
        lines = np.tile(np.arange(8) % 2 * 100, (8, 1))
        noise = np.random.RandomState(0).randint(0, 100, (100, 8, 8))
        images = np.stack([lines, lines.T])[labels] + noise
        return Labelled(images.astype(np.uint8)[..., None], labels, self.classes), None
