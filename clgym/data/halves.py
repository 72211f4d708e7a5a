"""Two disjoint halves of a set of images, for pairs that differ in little else.

The hash of an image decides, so that equal images fall into the same half in every set.
"""

from typing import Literal, get_args

import numpy as np

__all__ = ["HALVES", "Half", "in_half"]

Half = Literal["tuning", "evaluation"]
HALVES: tuple[Half, ...] = get_args(Half)


def in_half(hashes: np.ndarray, half: Half) -> np.ndarray:
    """Whether each image belongs to a half, bool [n].

    Args:
        hashes: uint8 [n, 32], SHA-256 of each image.
        half: Name of the half.
    """
    return hashes[:, -1] % 2 == HALVES.index(half)
