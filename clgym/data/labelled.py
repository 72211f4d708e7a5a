"""What every reader answers with, and what it says of a damaged file."""

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
    """int64 [N], into ``classes``."""
    classes: tuple[str, ...]
    """Names as the files give them; () if the layout knows none and the card's are meant."""
    decoding: str = ""
    """How images came to one size, as part of the fingerprint; empty where they have one."""
    notes: tuple[str, ...] = ()
    """What a reader of a record should know of how both halves were read; of the first half."""


def damaged(path: Path, expected: str, found: object) -> BadSource:
    """The error that names the file, what it should hold and what is wrong with it."""
    return BadSource(
        expected=f"{path} to hold {expected}",
        found=str(found) or type(found).__name__,
        fix="Get the file again: it is damaged or something else",
    )
