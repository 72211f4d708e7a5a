"""Images of the stream that a strategy still holds: looked for when it is saved, wherever they lie.

Every training image, and on adaptation streams every image that was answered, leaves a signature:
the sums of its pixels, of their squares and of their cubes. Rows of numbers in a strategy's reach
that have the signature of an image, as it is stored, scaled to [0, 1] or [-1, 1] or normalised, are
that image, whatever the order of its pixels. What was compressed, averaged or encoded otherwise is
not found.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["KeptImages", "SignatureState", "Signatures", "StreamSignatures"]

SignatureState = dict[int, tuple[torch.Tensor, float]]
"""By experience: sums of each image, float64 [n, 3], and images for each of them."""

_MOST = 500
"""Images of an experience that leave a signature, evenly spaced: fewer of large ones, so that they
have at most `_NUMBERS` pixels together."""
_NUMBERS = 10_000_000
_AT_ONCE = 1_000_000
"""Pixels of which signatures are taken at once."""
_PIXEL, _HALF_PIXEL = 1e-5, 1e-3
"""Rounding error of a pixel in [0, 1]: of scaling and back, and of half precision."""
_LATEST = -1
"""Where a state has the signatures of the latest images of an adaptation stream."""
_FEWEST = 4
"""Images that are a finding: three numbers may agree with a small image's by chance."""
_Form = tuple[np.ndarray, np.ndarray]
"""Factor and summand of each channel that turn numbers into pixels in [0, 1]."""
_Match = tuple[int, int]
"""An image: the experience, and its row in the table of signatures."""
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
        self._planes = shape[0], shape[1] * shape[2]
        one, half, zero = np.ones(shape[0]), np.full(shape[0], 0.5), np.zeros(shape[0])
        self._stored: _Form = (one / max_value, zero)
        self._forms: list[_Form] = [(one, zero), (half, half)]
        if len(mean) == len(std) == shape[0] and all(std):
            self._forms.append((np.array(std), np.array(mean)))
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
        step = max(_AT_ONCE // self._size, 1)
        parts = [places[start : start + step] for start in range(0, len(places), step)]
        table = np.concatenate([self._moments_of(take(part)) for part in parts or [places]])
        self._tables[experience] = (table[np.argsort(table[:, 0])], count / len(places))

    def _moments_of(self, images: np.ndarray) -> np.ndarray:
        """Sums of images as they are stored, but for flat ones."""
        values = images.reshape(len(images), -1) / self._max_value
        return _moments(values[values.std(axis=1) > _FLAT])

    def find(
        self,
        arrays: Iterable[tuple[str, np.ndarray]],
        declared: Iterable[tuple[str, np.ndarray]] = (),
    ) -> list[KeptImages]:
        """The places that hold images.

        Args:
            arrays: Numbers of any shape, with their places.
            declared: The memory's: an image that is there too is no further image elsewhere.
        """
        found: dict[str, list[list[list[_Match]]]] = {}
        for place, array in arrays:
            if any(forms := self._forms_of(array)):
                together = _INDEX.sub("[*]", place)  # a list of images is one place
                found.setdefault(together, []).append(forms)
        if not found:  # as a rule; what the memory holds need not be looked for then
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
        """The signatures, for a run that goes on in another process."""
        return {i: (torch.as_tensor(table), w) for i, (table, w) in self._tables.items()}

    def load_state_dict(self, state: SignatureState) -> None:
        """Restore `state_dict`."""
        self._tables = {i: (table.cpu().numpy(), w) for i, (table, w) in state.items()}

    def _count(self, forms: list[list[_Match]], known: set[_Match]) -> float:
        """How many images there are but the known ones, in the form in which most of them are."""
        return max(
            sum(self._tables[match[0]][1] for match in matches if match not in known)
            for matches in forms
        )

    def _forms_of(self, array: np.ndarray) -> list[list[_Match]]:
        """The images among an array's numbers, by the form in which pixels may stand there."""
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

        An image that several experiences have brought is that of the first of them.
        """
        # Errors of single pixels add up as a random walk does; a power's grow by the exponent.
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
    """Signatures of all images of an adaptation stream, but for those of the present batch."""

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
            latest: Number of latest images that may be at hand: those of a batch.
        """
        super().__init__(shape, 255, mean, std)
        self._latest, self._batches = latest, list[torch.Tensor]()

    def note_batch(self, images: torch.Tensor) -> None:
        """Take the signatures of a batch, float [n, C, H, W] in [0, 1], where it lies."""
        values = images.detach().flatten(1).double()
        squares = values.square()
        sums = [values.sum(1), squares.sum(1), (squares * values).sum(1)]
        self._batches.append(torch.stack(sums, 1))

    def find(
        self,
        arrays: Iterable[tuple[str, np.ndarray]],
        declared: Iterable[tuple[str, np.ndarray]] = (),
    ) -> list[KeptImages]:
        """The places that hold images of batches before the present one; see `Signatures.find`."""
        self._settle()
        return super().find(arrays, declared)

    def _settle(self) -> None:
        """Put all signatures but the latest into a table: they stay on the device until then."""
        noted = torch.cat([torch.zeros(0, 3), *(batch.cpu() for batch in self._batches)]).numpy()
        past = noted[: max(len(noted) - self._latest, 0)]
        self._batches = [torch.as_tensor(noted[len(past) :].copy())]
        mean = past[:, 0] / self._size
        past = past[past[:, 1] / self._size - mean**2 > _FLAT**2]
        table = np.concatenate([self._tables.get(0, (np.zeros((0, 3)), 1.0))[0], past])
        self._tables = {0: (table[np.argsort(table[:, 0])], 1.0)}

    def state_dict(self) -> SignatureState:
        """The signatures, for a run that goes on in another process."""
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
    return np.stack([values.sum(1), squares.sum(1), (squares * values).sum(1)], axis=1)


def _between(
    ascending: np.ndarray, wanted: np.ndarray, slack: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the values begin and end, int64 [n], that are near each wanted one."""
    return np.searchsorted(ascending, wanted - slack), np.searchsorted(
        ascending, wanted + slack, "right"
    )


@dataclass(frozen=True)
class _QuickLook:
    """Three numbers of each row, which rule out most rows of weights in every form."""

    low: np.ndarray
    """Smallest number, [n]."""
    high: np.ndarray
    """Largest number, [n]."""
    sums: np.ndarray
    """Sum of each channel, float64 [n, C]."""

    @classmethod
    def at(cls, rows: np.ndarray) -> "_QuickLook":
        """Look at rows [n, C, H * W], without a copy of them."""
        # Row by row NumPy is slow, many rows at once would not fit into the processor's cache.
        low, high = rows.min(axis=(1, 2)), rows.max(axis=(1, 2))
        return cls(low, high, rows.sum(axis=2, dtype=np.float64))

    def may_be_images(self, form: _Form, pixel: float) -> np.ndarray:
        """Whether a row's numbers lie where an image's would and are not all alike: bool [n]."""
        factor, summand = form
        lowest = np.min((-pixel - summand) / factor) - pixel
        highest = np.max((1 + pixel - summand) / factor) + pixel
        varies = (self.high - self.low.astype(np.float64)) * factor.max() > _FLAT
        return (self.low > lowest) & (self.high < highest) & varies
