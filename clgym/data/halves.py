"""Two disjoint halves of a set of images, for pairs that differ in little else.

Cut by image hash: equal images, wherever they stand, fall into the same half.
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
        half: Which one.
    """
    return hashes[:, -1] % 2 == HALVES.index(half)
