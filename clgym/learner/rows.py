"""Images of a stream in the learner's process, found by the row numbers that the gym sends."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clgym.data.images import Images
from clgym.data.read_ahead import read_ahead
from clgym.data.to_device import to_device
from clgym.messages import ExperienceRows, Frozen, Predict, Represent, RowGroup, Start, Train
from clgym.models.features import FrozenFeatures, SplitRows

__all__ = ["RowImages", "stored_features"]


@dataclass(frozen=True, eq=False)
class _Stored:
    """Rows of one group in a batch, read but not yet on the device."""

    images: Images
    pixels: Tensor
    """Pixels in the host's memory, which `Images.read` gave."""
    places: np.ndarray
    """int64 [n], their places in the batch."""
    transform: tuple[str, float] | None


class RowImages:
    """Images of a run's sources, mapped and converted to a common range of values.

    Attributes:
        scale: Factor that converts stored pixels to [0, 1].
    """

    def __init__(self, request: Start, channels: int, device: torch.device) -> None:
        """Note the files that a run's start message names."""
        # One range for all sources, since a memory mixes their pixels.
        largest = max((source.max_value for source in request.sources), default=1)
        self.scale = 1.0 / largest
        self._sources, self._resize, self._device = request.sources, request.resize, device
        self._channels, self._largest = channels, largest
        self._mapped: dict[tuple[int, str], Images] = {}

    def _images(self, number: int, split: str) -> Images:
        """Images of a split, mapped at first use, since other files may not be accessible."""
        if (number, split) not in self._mapped:
            source = self._sources[number]
            path = source.train if split == "train" else source.test
            self._mapped[number, split] = self._opened(path, source.max_value)
        return self._mapped[number, split]

    def _opened(self, path: Path, white: int) -> Images:
        """Images of a file, ``white`` being the largest value of a pixel there."""
        gain = self._largest / white
        return Images(path, self._resize, self._device, self._channels, gain, self._largest)

    def features(self, backbone: Frozen, report: Callable[[int, int], None]) -> FrozenFeatures:
        """Features of these images by a frozen backbone, for `Batch.features`.

        Args:
            backbone: The network and the format of its input.
            report: Called with the number of computed images and their total.
        """

        def rows_of(number: int, split: str) -> SplitRows:
            content = (self._sources[number].fingerprint, split, self._resize)
            return SplitRows(self._images(number, split), content, self.scale)

        return FrozenFeatures(backbone, self._device, rows_of, report)

    def of_experience(self, request: Train | ExperienceRows) -> Tensor:
        """Stored pixels of an experience's rows, which are ordered by group."""
        pixels: Tensor | None = None
        start, total = 0, sum(request.counts)
        for group, path in zip(request.groups, request.due.images, strict=True):
            images = self._opened(path, self._sources[group.source].max_value)
            part, count = images.gather(np.arange(len(images)), group.transform), len(images)
            if count == total:
                return part
            if pixels is None:
                pixels = part.new_empty((total, *part.shape[1:]))
            pixels[start : start + count] = part
            start += count
        assert pixels is not None
        return pixels

    def of_test(self, request: Predict | Represent, parts: Iterable[slice]) -> Generator[Tensor]:
        """Images in [0, 1] of some rows of a test, part by part; see `read_ahead`."""

        def read(part: slice) -> list[_Stored]:
            return self._stored(request.groups, request.rows[part], request.where[part])

        with closing(read_ahead(parts, read, self._device)) as found:
            for stored in found:
                yield self._mixed(stored)

    def _stored(
        self, groups: Sequence[RowGroup], rows: np.ndarray, where: np.ndarray
    ) -> list[_Stored]:
        """Rows of a batch by their groups: a batch of a shuffled pool may mix them."""
        found: list[_Stored] = []
        for number, group in enumerate(groups):
            places = np.flatnonzero(where == number)
            if not len(places):
                continue
            images = self._images(group.source, group.split)
            found.append(_Stored(images, images.read(rows[places]), places, group.transform))
        return found

    def _mixed(self, groups: Sequence[_Stored]) -> Tensor:
        """The images of a batch, in order."""
        images, count = None, sum(len(group.places) for group in groups)
        for group in groups:
            some = group.images.finish(group.pixels, group.transform).float().mul_(self.scale)
            if len(groups) == 1:
                return some
            images = some.new_empty((count, *some.shape[1:])) if images is None else images
            images[to_device(torch.as_tensor(group.places), some.device)] = some
        assert images is not None
        return images


def stored_features(file: Path | None, device: torch.device) -> Tensor | None:
    """Features that the gym wrote, float32 [n, width] on the device; None if it wrote none."""
    return None if file is None else to_device(torch.as_tensor(np.load(file)), device)
