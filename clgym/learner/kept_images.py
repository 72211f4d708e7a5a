"""Search for images of the stream that a strategy still holds when it is saved.

Every training image, and on adaptation streams every predicted image, has a signature: the sums of
its pixels, of their squares and of their cubes. Rows of numbers that a strategy refers to and that
have the signature of an image, as stored, scaled to [0, 1] or [-1, 1] or normalised, count as that
image, in any order of its pixels. Images that were compressed, averaged or encoded otherwise are
not found.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["KeptImages", "SignatureState", "Signatures", "StreamSignatures"]

SignatureState = dict[int, tuple[torch.Tensor, float]]
"""By experience: sums of each image, float64 [n, 3], and the number of images per signature."""

_MOST = 500
"""Maximum number of images of an experience that have a signature, evenly spaced; fewer for large
images, so that they have at most `_NUMBERS` pixels together."""
_NUMBERS = 10_000_000
_AT_ONCE = 1_000_000
"""Pixels of which signatures are taken at once."""
_PIXEL, _HALF_PIXEL = 1e-5, 1e-3
"""Rounding errors of a pixel in [0, 1]: by scaling back and forth, and in half precision."""
_LATEST = -1
"""Key in a state of the signatures of the latest images of an adaptation stream."""
_FEWEST = 4
"""Minimum number of images that are reported, since three sums may agree by chance."""
_Form = tuple[np.ndarray, np.ndarray]
"""Factor and offset of each channel that turn numbers into pixels in [0, 1]."""
_Match = tuple[int, int]
"""An image: the experience, and its row in the table of signatures."""
_INDEX = re.compile(r"\[\d+\]")
_CHUNK = 512
"""Number of rows that are compared together."""
_FLAT = 0.02
"""Standard deviation of pixels below which an image counts as constant."""


@dataclass(frozen=True)
class KeptImages:
    """Images in one place."""

    place: str
    """Place, as an author would write it: ``self.exemplars[*]``."""
    images: int
    """Number of images, extrapolated if an experience has fewer signatures than images."""


class Signatures:
    """Signatures of all training images that a learner received."""

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
            max_value: Maximum value of a stored pixel.
            mean: Mean of each channel, for pixels in [0, 1]; empty if unknown.
            std: Standard deviation of each channel.
        """
        self._size, self._max_value = int(np.prod(shape)), max_value
        self._planes = shape[0], shape[1] * shape[2]
        one, half, zero = np.ones(shape[0]), np.full(shape[0], 0.5), np.zeros(shape[0])
        self._stored: _Form = (one / max_value, zero)
        self._forms: list[_Form] = [(one, zero), (half, half)]
        if len(mean) == len(std) == shape[0] and all(std):
            self._forms.append((np.array(std), np.array(mean)))
        self._tables: dict[int, tuple[np.ndarray, float]] = {}

    def note(self, experience: int, count: int, take: Callable[[np.ndarray], np.ndarray]) -> None:
        """Compute the signatures of an experience's images.

        Args:
            experience: Number of the experience; earlier signatures of it are replaced.
            count: Number of images.
            take: Returns the images at some places, int64 [m], as stored, [m, C, H, W].
        """
        most = min(count, _MOST, max(_NUMBERS // self._size, 1))
        places = np.unique(np.linspace(0, count - 1, most).astype(np.int64))
        step = max(_AT_ONCE // self._size, 1)
        parts = [places[start : start + step] for start in range(0, len(places), step)]
        table = np.concatenate([self._moments_of(take(part)) for part in parts or [places]])
        self._tables[experience] = (table[np.argsort(table[:, 0])], count / len(places))

    def _moments_of(self, images: np.ndarray) -> np.ndarray:
        """Sums of images as they are stored, but for flat ones."""
        sums = _moments(images.reshape(len(images), -1) / self._max_value)
        return sums[_varied(sums, self._size)]

    def find(
        self,
        arrays: Iterable[tuple[str, np.ndarray]],
        declared: Iterable[tuple[str, np.ndarray]] = (),
    ) -> list[KeptImages]:
        """The places that hold images.

        Args:
            arrays: Numbers of any shape, with their places.
            declared: Numbers of the memory, whose images are not counted elsewhere.
        """
        found: dict[str, list[list[list[_Match]]]] = {}
        for place, array in arrays:
            if any(forms := self._forms_of(array)):
                together = _INDEX.sub("[*]", place)  # a list of images is one place
                found.setdefault(together, []).append(forms)
        if not found:  # the usual case, in which the memory need not be searched
            return []
        known = {
            match for _, array in declared for matches in self._forms_of(array) for match in matches
        }
        counted = [
            (place, round(sum(self._count(forms, known) for forms in arrays_there)))
            for place, arrays_there in found.items()
        ]
        return [KeptImages(place, count) for place, count in counted if count >= _FEWEST]

    def state_dict(self) -> SignatureState:
        """The signatures, for a run that continues in another process."""
        return {i: (torch.as_tensor(table), w) for i, (table, w) in self._tables.items()}

    def load_state_dict(self, state: SignatureState) -> None:
        """Restore `state_dict`."""
        self._tables = {i: (table.cpu().numpy(), w) for i, (table, w) in state.items()}

    def _count(self, forms: list[list[_Match]], known: set[_Match]) -> float:
        """Number of images besides the known ones, in the form in which most of them are stored."""
        return max(
            sum(self._tables[match[0]][1] for match in matches if match not in known)
            for matches in forms
        )

    def _forms_of(self, array: np.ndarray) -> list[list[_Match]]:
        """The images among an array's numbers, by the form in which pixels may be stored."""
        count = array.size // self._size
        if not count:
            return []
        rows = array.reshape(-1)[: count * self._size].reshape(count, *self._planes)
        look = _QuickLook.at(rows)
        whole = rows.dtype.kind in "iu"
        forms = [self._stored] if whole else self._forms
        if not whole and np.fmax.reduce(look.high) > 1 + _HALF_PIXEL:
            forms = [self._stored, *forms]
        pixel = _HALF_PIXEL if rows.dtype == np.float16 else _PIXEL
        return [self._in_form(rows, look, form, pixel) for form in forms]

    def _in_form(
        self, rows: np.ndarray, look: "_QuickLook", form: _Form, pixel: float
    ) -> list[_Match]:
        """The images that rows [n, C, H * W] are once they are scaled to [0, 1]."""
        near = np.flatnonzero(look.may_be_images(form, pixel))
        sums = look.sums[near] @ form[0] + self._planes[1] * form[1].sum()
        near = near[self._has_near(sums, pixel * np.sqrt(self._size))]
        found: list[_Match] = []
        step = min(_CHUNK, max(_AT_ONCE // self._size, 1))
        for start in range(0, len(near), step):
            values = rows[near[start : start + step]].astype(np.float64)
            values = (values * form[0][:, None] + form[1][:, None]).reshape(len(values), -1)
            inside = (values.min(1) > -pixel) & (values.max(1) < 1 + pixel)
            if inside.any():
                found += self._alike(_moments(values[inside]), pixel)
        return found

    def _has_near(self, sums: np.ndarray, slack: float) -> np.ndarray:
        """Whether some image has nearly such a sum of pixels: bool [n]."""
        near = np.zeros(len(sums), bool)
        for table, _ in self._tables.values():
            first, last = _between(table[:, 0], sums, slack)
            near |= last > first
        return near

    def _alike(self, moments: np.ndarray, pixel: float) -> list[_Match]:
        """The images with such signatures, up to rounding errors of a pixel; one for each row.

        An image that occurs in several experiences counts for the first of them.
        """
        # Errors of single pixels add up like a random walk; those of a power grow by the exponent.
        slack = pixel * np.sqrt(self._size) * np.array([1, 2, 3])
        found: dict[int, _Match] = {}
        for experience, (table, _) in self._tables.items():
            first, last = _between(table[:, 0], moments[:, 0], float(slack[0]))
            for number in np.flatnonzero(last > first).tolist():
                if number in found:
                    continue
                start, row = int(first[number]), moments[number]
                alike = (np.abs(table[start : int(last[number])] - row) < slack).all(axis=1)
                if alike.any():
                    found[number] = experience, start + int(alike.argmax())
        return list(found.values())


class StreamSignatures(Signatures):
    """Signatures of all images of an adaptation stream, except those of the current batch."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        latest: int = 1,
    ) -> None:
        """Begin without images; see `Signatures`.

        Args:
            shape: Channels, height and width of an image.
            mean: Mean of each channel.
            std: Standard deviation of each channel.
            latest: Number of latest images that a strategy may hold: those of a batch.
        """
        super().__init__(shape, 255, mean, std)
        self._latest, self._batches = latest, list[torch.Tensor]()

    def note_batch(self, images: torch.Tensor) -> None:
        """Compute the signatures of a batch, float [n, C, H, W] in [0, 1], on its device."""
        values = images.detach().flatten(1).double()
        squares = values.square()
        sums = [values.sum(1), squares.sum(1), (squares * values).sum(1)]
        self._batches.append(torch.stack(sums, 1))

    def find(
        self,
        arrays: Iterable[tuple[str, np.ndarray]],
        declared: Iterable[tuple[str, np.ndarray]] = (),
    ) -> list[KeptImages]:
        """The places that hold images of batches before the current one; see `Signatures.find`."""
        self._settle()
        return super().find(arrays, declared)

    def _settle(self) -> None:
        """Move all signatures but the latest from the device to a table."""
        noted = torch.cat([torch.zeros(0, 3), *(batch.cpu() for batch in self._batches)]).numpy()
        past = noted[: max(len(noted) - self._latest, 0)]
        self._batches = [torch.as_tensor(noted[len(past) :].copy())]
        past = past[_varied(past, self._size)]
        table = np.concatenate([self._tables.get(0, (np.zeros((0, 3)), 1.0))[0], past])
        self._tables = {0: (table[np.argsort(table[:, 0])], 1.0)}

    def state_dict(self) -> SignatureState:
        """The signatures, for a run that continues in another process."""
        self._settle()
        return {**super().state_dict(), _LATEST: (self._batches[0], 1.0)}

    def load_state_dict(self, state: SignatureState) -> None:
        """Restore `state_dict`."""
        self._batches = [state[_LATEST][0]] if _LATEST in state else []
        super().load_state_dict({i: table for i, table in state.items() if i != _LATEST})


def _moments(values: np.ndarray) -> np.ndarray:
    """Sums of the values, squares and cubes of each row, float64 [n, 3]."""
    values = values.astype(np.float64, copy=False)
    squares = np.square(values)
    sums = np.empty((len(values), 3))
    values.sum(axis=1, out=sums[:, 0])
    squares.sum(axis=1, out=sums[:, 1])
    np.multiply(squares, values, out=squares).sum(axis=1, out=sums[:, 2])
    return sums


def _varied(sums: np.ndarray, size: int) -> np.ndarray:
    """Which of the images with these sums, [n, 3], have pixels that are not almost equal: [n]."""
    mean = sums[:, 0] / size
    return sums[:, 1] / size - mean**2 > _FLAT**2


def _between(
    ascending: np.ndarray, wanted: np.ndarray, slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """First and last index, int64 [n], of the values that are near each wanted one."""
    return np.searchsorted(ascending, wanted - slack), np.searchsorted(
        ascending, wanted + slack, "right"
    )


@dataclass(frozen=True)
class _QuickLook:
    """Three statistics of each row, which exclude most rows of weights in every form."""

    low: np.ndarray
    """Smallest number, [n]."""
    high: np.ndarray
    """Largest number, [n]."""
    sums: np.ndarray
    """Sum of each channel, float64 [n, C]."""

    @classmethod
    def at(cls, rows: np.ndarray) -> "_QuickLook":
        """Look at rows [n, C, H * W], without a copy of them."""
        # Single rows are slow in NumPy, and many rows at once do not fit into the processor's
        # cache.
        low, high = rows.min(axis=(1, 2)), rows.max(axis=(1, 2))
        return cls(low, high, rows.sum(axis=2, dtype=np.float64))

    def may_be_images(self, form: _Form, pixel: float) -> np.ndarray:
        """Whether a row's numbers are in the range of an image and not all equal: bool [n]."""
        factor, summand = form
        lowest = np.min((-pixel - summand) / factor) - pixel
        highest = np.max((1 + pixel - summand) / factor) + pixel
        varies = (self.high - self.low.astype(np.float64)) * factor.max() > _FLAT
        return (self.low > lowest) & (self.high < highest) & varies
