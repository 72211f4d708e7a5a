"""Find the training images that a strategy keeps, in everything reachable from it."""

from collections.abc import Sequence

import numpy as np

from clgym.learner.entrance import Learner
from clgym.learner.reachable import arrays_in, roots_of
from clgym.strategy import Memory, Strategy

__all__ = ["Held", "held_by"]

_ALIKE = 1e-4
"""Maximum difference of two pixels that count as the same image."""


class Held:
    """The numbers that a strategy can reach.

    Attributes:
        images: Number of the given training images that are among them.
        numbers: Number of values outside `StreamInfo.memory`.
    """

    def __init__(
        self,
        arrays: list[np.ndarray],
        kept: list[np.ndarray],
        pixels: np.ndarray,
        scales: Sequence[tuple[float, float]],
    ) -> None:
        """Compare arrays with training images.

        Args:
            arrays: All reachable arrays outside the memory.
            kept: Arrays of the memory.
            pixels: Training images, [n, ...].
            scales: Scales in which a pixel may be kept: (factor, offset).
        """
        self.numbers = sum(a.size for a in arrays)
        size = int(np.prod(pixels.shape[1:]))
        # Sorted, so that an image is recognised after it was flipped or permuted.
        plain = np.sort(pixels.reshape(len(pixels), size).astype(np.float64), axis=1)
        found = np.zeros(len(plain), dtype=bool)
        for array in [*arrays, *kept]:
            if array.size >= size and array.size % size == 0:
                rows = np.sort(np.nan_to_num(array.reshape(-1, size).astype(np.float64)), axis=1)
                for factor, added in scales:
                    found |= _among(plain * factor + added, rows)
        self.images = int(found.sum())


def _among(wanted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of the wanted rows are among ``rows``: bool [n]."""
    # Compare one pixel first, which is fast: most rows are weights.
    found = np.zeros(len(wanted), dtype=bool)
    for i, image in enumerate(wanted):
        near = rows[np.abs(rows[:, -1] - image[-1]) < _ALIKE]
        found[i] = bool(len(near)) and bool((np.abs(near - image).max(axis=1) < _ALIKE).any())
    return found


def held_by(strategy: Strategy, pixels: np.ndarray, scales: Sequence[tuple[float, float]]) -> Held:
    """Visit everything reachable from ``strategy``, its module's globals included."""
    memory = strategy.info.memory
    kept = [column.detach().cpu().numpy() for column in memory.storage().values()]
    return Held(_outside(roots_of(strategy), memory), kept, pixels, scales)


def _outside(roots: dict[str, object], memory: Memory) -> list[np.ndarray]:
    return [array for _, array in arrays_in(roots, [memory, Learner])]
