"""Result of every reader, and the error for a damaged file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clgym.data.store import ImageRows
from clgym.errors import BadSource

__all__ = ["Labelled", "damaged"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Decoded images with the labels and class names that their files state."""

    images: ImageRows
    """uint8 [N, H, W, C]."""
    labels: np.ndarray
    """int64 [N], indices into ``classes``."""
    classes: tuple[str, ...]
    """Class names as in the files; () if the layout has none and the card's apply."""
    decoding: str = ""
    """How images were brought to one size, as part of the fingerprint; empty if they have one."""
    notes: tuple[str, ...] = ()
    """Warnings about the reading of both splits, stored with the first split."""


def damaged(path: Path, expected: str, found: object) -> BadSource:
    """Error that names the file, its expected content, and the problem."""
    return BadSource(
        expected=f"{path} to hold {expected}",
        found=str(found) or type(found).__name__,
        fix="Download the file again: it is damaged or a different file",
    )
