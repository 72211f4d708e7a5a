"""Training images that a strategy still holds: looked for after each experience, wherever they lie.

Every training image leaves a signature: the sums of its pixels, of their squares and of their
cubes. Rows of numbers in a strategy's reach that have the signature of an image, as it is stored,
scaled to [0, 1] or [-1, 1] or normalised, are that image, whatever the order of its pixels. What
was compressed, averaged or encoded otherwise is not found.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["KeptImages", "SignatureState", "Signatures"]

SignatureState = dict[int, tuple[torch.Tensor, float]]
"""By experience: sums of each image, float64 [n, 3], and images for each of them."""

_MOST = 500
"""Images of an experience that leave a signature, evenly spaced: fewer of large ones, so that they
have at most `_NUMBERS` pixels together."""
_NUMBERS = 10_000_000
_PIXEL = 1e-3
"""Rounding error of a pixel in [0, 1]: what half precision leaves of it."""
_FEWEST = 4
"""Images that are a finding: three numbers may agree with a small image's by chance."""
_Form = tuple[float | np.ndarray, float | np.ndarray]
"""Factor, and what is added, that turn numbers into pixels in [0, 1]; one each, or one a pixel."""
_INDEX = re.compile(r"\[\d+\]")
_CHUNK = 512
"""Rows that are looked at together."""
_FLAT = 0.02
"""Deviation of the pixels below which an image is no different from a run of equal numbers."""


@dataclass(frozen=True)
class KeptImages:
    """Images in one place."""

    place: str
    """Where, as an author would write it: ``self.exemplars[*]``."""
    images: int
    """How many; scaled up where an experience left fewer signatures than it had images."""


class Signatures:
    """Signatures of all training images that a learner was given."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        max_value: float,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
    ) -> None:
        """Begin without images.

        Args:
            shape: Channels, height and width of an image.
            max_value: The largest value of a stored pixel.
            mean: Mean of each channel, for pixels in [0, 1]; empty if unknown.
            std: Standard deviation of each channel.
        """
        self._size, self._max_value = int(np.prod(shape)), max_value
        self._forms: list[_Form] = [(1.0, 0.0), (0.5, 0.5)]
        plane = shape[1] * shape[2]
        if len(mean) == len(std) == shape[0] and all(std):
            self._forms.append((np.repeat(std, plane), np.repeat(mean, plane)))
        self._tables: dict[int, tuple[np.ndarray, float]] = {}

    def note(self, experience: int, count: int, take: Callable[[np.ndarray], np.ndarray]) -> None:
        """Take the signatures of an experience's images.

        Args:
            experience: Its number; what was noted of it before is replaced.
            count: Number of images.
            take: Gives the images at some places, int64 [m] to [m, C, H, W] as they are stored.
        """
        most = min(count, _MOST, max(_NUMBERS // self._size, 1))
        places = np.unique(np.linspace(0, count - 1, most).astype(np.int64))
        values = take(places).reshape(len(places), -1) / self._max_value
        table = _moments(values[values.std(axis=1) > _FLAT])
        self._tables[experience] = (table[np.argsort(table[:, 0])], count / len(places))

    def find(self, arrays: Iterable[tuple[str, np.ndarray]]) -> list[KeptImages]:
        """The places that hold training images.

        Args:
            arrays: Numbers of any shape, with their places.
        """
        found: dict[str, int] = {}
        for place, array in arrays:
            count = array.size // self._size
            if count:
                rows = array.reshape(-1)[: count * self._size].reshape(count, self._size)
                together = _INDEX.sub("[*]", place)  # a list of images is one place
                found[together] = found.get(together, 0) + self._count(rows)
        return [KeptImages(place, n) for place, n in found.items() if n >= _FEWEST]

    def state_dict(self) -> SignatureState:
        """The signatures, for a run that goes on in another process."""
        return {i: (torch.as_tensor(table), w) for i, (table, w) in self._tables.items()}

    def load_state_dict(self, state: SignatureState) -> None:
        """Restore `state_dict`."""
        self._tables = {i: (table.cpu().numpy(), w) for i, (table, w) in state.items()}

    def _count(self, rows: np.ndarray) -> int:
        """How many rows are training images, in the form in which most of them are."""
        whole = rows.dtype.kind in "iu"
        forms: list[_Form] = [(1 / self._max_value, 0.0)] if whole else self._forms
        if not whole and rows.max() > 1 + _PIXEL:
            forms = [(1 / self._max_value, 0.0), *forms]
        spread = _deviations(rows)  # a quick look: rows of weights vary less than images
        return round(max(self._in_form(rows, spread, *form) for form in forms))

    def _in_form(
        self,
        rows: np.ndarray,
        spread: np.ndarray,
        factor: float | np.ndarray,
        added: float | np.ndarray,
    ) -> float:
        """How many rows are training images once they are scaled to [0, 1]."""
        near, total = np.flatnonzero(spread * np.max(factor) > _FLAT / 2), 0.0
        for start in range(0, len(near), _CHUNK):
            values = rows[near[start : start + _CHUNK]] * factor + added
            inside = (values.min(1) > -_PIXEL) & (values.max(1) < 1 + _PIXEL)
            if inside.any():
                total += self._weights(_moments(values[inside])).sum()
        return total

    def _weights(self, moments: np.ndarray) -> np.ndarray:
        """Images that each row of signatures stands for: 0 for one that is no training image.

        A row counts once, however many experiences have brought its image.
        """
        found = np.zeros(len(moments))
        for table, weight in self._tables.values():
            found = np.maximum(found, weight * self._alike(moments, table))
        return found

    def _alike(self, moments: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Which rows of signatures stand in a table, up to rounding errors: bool [n]."""
        # Errors of single pixels add up as a random walk does; a power's grow by the exponent.
        slack = _PIXEL * np.sqrt(self._size) * np.array([1, 2, 3])
        sums, alike = table[:, 0].tolist(), np.zeros(len(moments), dtype=bool)
        for number, row in enumerate(moments):
            first = bisect_left(sums, row[0] - slack[0])
            last = bisect_right(sums, row[0] + slack[0])
            alike[number] = (np.abs(table[first:last] - row) < slack).all(axis=1).any()
        return alike


def _moments(values: np.ndarray) -> np.ndarray:
    """Sums of the values, squares and cubes of each row, float64 [n, 3]."""
    values = values.astype(np.float64, copy=False)
    squares = np.square(values)
    return np.stack([values.sum(1), squares.sum(1), (squares * values).sum(1)], axis=1)


def _deviations(rows: np.ndarray) -> np.ndarray:
    """Standard deviation of each row, without a copy of all of them."""
    parts = (rows[i : i + _CHUNK].astype(np.float32) for i in range(0, len(rows), _CHUNK))
    return np.concatenate([np.nan_to_num(part.std(axis=1)) for part in parts])
