"""What the gym hands a learner: batches of images, and the labelled rows of one experience.

`clgym.strategy` offers all of it to authors.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clgym.errors import OutOfReach

__all__ = ["Augment", "Batch", "Experience", "Report", "keyed_generator"]

Report = Callable[[Mapping[str, Any]], None]
"""Takes in progress by name; see `Experience.report`."""


@dataclass(eq=False)
class Batch:
    """Some images and what is allowed to be known of them."""

    images: Tensor
    """float32 [n, C, H, W] in [0, 1], augmented where the strategy asked for it."""
    labels: Tensor | None = None
    """int64 [n], columns of the logits; None outside training."""
    task: int | None = None
    """The task id, in task-incremental streams only."""
    pixels: Tensor | None = None
    """uint8 [n, C, H, W], the same images as they are stored, not augmented; training only."""
    features: Tensor | None = None
    """float32 [n, d], what the declared backbone makes of the images, not augmented; None where
    `Needs.features` does not ask for them, or where no gym provides them."""

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)


Augment = Callable[[Tensor, torch.Generator], Tensor]


class Experience:
    """One step of a learning stream: labelled rows that are in reach until the step is over.

    Attributes:
        index: Position in the stream, from 0.
        classes: Columns of the classes present, ascending.
        columns: Classes seen so far, these included: the width that `predict` must answer with.
        task: Task id; None unless the stream is task-incremental.
        task_columns: For each task seen so far, its columns; empty unless task-incremental.
        images: Training images handed out so far, over all epochs; a strategy with a loader of
            its own adds to it, as one does that trains on a `part`.
        min_batch: Smallest number of rows in a batch: a last batch with fewer joins the one before.
            1 unless the strategy sets it, as those do that train under batch normalisation.
    """

    def __init__(
        self,
        index: int,
        pixels: Tensor,
        labels: Tensor,
        *,
        classes: tuple[int, ...],
        columns: int,
        seed: int,
        scale: float,
        task: int | None = None,
        task_columns: tuple[tuple[int, ...], ...] = (),
        single_pass: bool = False,
        report: Report = lambda event: None,
        safe_point: Callable[[], None] = lambda: None,
        features: Tensor | None = None,
    ) -> None:
        """Made by the gym only. ``scale`` turns stored pixels into [0, 1]."""
        self.index, self.classes, self.columns = index, classes, columns
        self.task, self.task_columns, self.single_pass = task, task_columns, single_pass
        self._seed, self._scale = seed, scale
        self._pixels: Tensor | None = pixels
        self._labels: Tensor | None = labels
        self._features = features
        self._length = len(labels)
        self._parts: list[Experience] = []
        self.images, self.min_batch = 0, 1
        self._report, self._safe_point = report, safe_point

    def __len__(self) -> int:
        """Count the training rows."""
        return self._length

    @property
    def pixels(self) -> Tensor:
        """All images as stored, uint8 [n, C, H, W], on the device.

        Raises:
            OutOfReach: the experience is over.
        """
        return self._held(self._pixels)

    @property
    def labels(self) -> Tensor:
        """All labels, int64 [n], on the device.

        Raises:
            OutOfReach: the experience is over.
        """
        return self._held(self._labels)

    def _held(self, data: Tensor | None) -> Tensor:
        if data is None:
            raise OutOfReach(
                expected=f"data of the present experience (experience {self.index} is over)",
                found="a read through a kept reference",
                fix="Keep samples in info.memory and declare Needs(memory=...)",
            )
        return data

    def close(self) -> None:
        """Put the data out of reach; the gym calls it when `Strategy.train` has returned."""
        self._pixels = self._labels = self._features = None
        for part in self._parts:
            part.close()

    def part(self, rows: Tensor) -> "Experience":
        """Some of the rows as an experience, for a split of a strategy's own; closed with this one.

        Args:
            rows: Their places, int64 [n], on the device.

        Raises:
            OutOfReach: the experience is over.
        """
        part = copy.copy(self)
        part._pixels, part._labels = self.pixels[rows], self.labels[rows]
        part._features = None if self._features is None else self._features[rows]
        part._length, part._parts, part.images = len(rows), [], 0
        self._parts.append(part)
        return part

    def to_float(self, pixels: Tensor) -> Tensor:
        """Stored pixels as float32 in [0, 1]."""
        return pixels.float().mul_(self._scale)

    def steps(self, size: int) -> int:
        """Batches of ``size`` in one epoch, the short last one included."""
        return -(-len(self) // size) - self.merges(size)

    def merges(self, size: int) -> bool:
        """Whether the last batch of ``size`` joins the one before: it has too few rows."""
        return len(self) > size and 0 < len(self) % size < self.min_batch

    def generator(self, *key: int) -> torch.Generator:
        """A CPU generator that depends on the run's seed, this experience and ``key`` alone."""
        return keyed_generator(self._seed, self.index, *key)

    def batches(
        self,
        size: int,
        *,
        epoch: int = 0,
        shuffle: bool = True,
        augment: Augment | None = None,
        start: int = 0,
    ) -> Iterator[Batch]:
        """The rows once, in batches; the last may be short, or longer by what `min_batch` says.

        Order and augmentation depend on (seed, experience, epoch, step) alone, so a run that was
        killed goes on from step ``start`` with the same bits.

        Args:
            size: Rows a batch.
            epoch: Which pass this is.
            shuffle: A fresh order each epoch; else the stored order.
            augment: Called with float images [n, C, H, W] and a generator.
            start: Steps to skip.

        Raises:
            OutOfReach: a second pass over a single-pass stream.
        """
        if self.single_pass and epoch > 0:
            raise OutOfReach(
                expected="one pass over the rows of a single-pass stream",
                found=f"epoch {epoch + 1}",
                fix="Set --epochs 1, or take a stream that is not online",
            )
        order = torch.randperm(len(self), generator=self.generator(epoch)) if shuffle else None
        order = None if order is None else order.to(self.pixels.device)
        steps = self.steps(size)
        for step in range(start, steps):
            part = slice(step * size, None if step == steps - 1 else (step + 1) * size)
            rows = part if order is None else order[part]
            pixels, labels = self.pixels[rows], self.labels[rows]
            images = self.to_float(pixels)
            if augment is not None:
                images = augment(images, self.generator(epoch, step))
            self.images += len(labels)
            features = None if self._features is None else self._features[rows]
            yield Batch(images, labels, self.task, pixels, features)

    def report(self, **event: Any) -> None:
        """Tell the gym how training goes: ``epoch, epochs, step, steps, loss, images`` as known."""
        self._report({"experience": self.index, **event})

    def safe_point(self) -> None:
        """Offer the gym a moment at which `Strategy.state_dict` suffices to continue `train`.

        The gym saves here now and then. After a kill it loads that state and calls `train` with
        the same experience again, which must then go on where the state says.
        """
        self._safe_point()


def keyed_generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a tuple of whole numbers, alike on every machine."""
    mixed = 0xCBF29CE484222325
    for part in key:
        mixed = ((mixed ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 29
    return torch.Generator().manual_seed(mixed & 0x7FFFFFFFFFFFFFFF)
