"""Batches of images: those to predict, and those to learn from, which have labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clgym.errors import OutOfReach

__all__ = ["Batch", "TrainBatch"]


@dataclass(eq=False)
class Batch:
    """Images of a batch, with the facts that may be known about them; no labels."""

    images: Tensor
    """float32 [n, C, H, W] in [0, 1], augmented if the strategy requests it."""
    task: int | None = None
    """Task id; given in task-incremental streams only."""
    features: Tensor | None = None
    """float32 [n, d], features of the declared backbone, without augmentation; None unless
    `Needs.features` requests them and a gym provides them."""
    finite: bool = False
    """Whether all pixels are known to be finite numbers, as those of stored images are."""

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)


class TrainBatch(Batch):
    """Labelled images of a training step: new samples first, then samples from a memory.

    Attributes:
        old: The samples from a memory or a plugin that joined the new ones; None if none did.
    """

    old: "TrainBatch | None" = None
    _whole_new: "TrainBatch | None" = None

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        task: int | None = None,
        tasks: Tensor | None = None,
        task_of: Tensor | None = None,
        pixels: Tensor | None = None,
        features: Tensor | None = None,
        columns: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Put samples together.

        Args:
            images: float32 [n, C, H, W] in [0, 1], augmented if the strategy requests it.
            labels: int64 [n], class indices; None for samples that were stored without labels, and
                on streams without labels.
            task: Task id of the experience, in task-incremental streams only.
            tasks: int64 [n], task id of each sample.
            task_of: int64 [classes], task id of each class, from which ``tasks`` follow.
            pixels: uint8 [n, C, H, W], the same images as stored, not augmented.
            features: float32 [n, d], see `Batch.features`.
            columns: Further columns that a memory stores with its samples, [n, ...] each.
        """
        super().__init__(images, task, features)
        self._labels, self._tasks, self._pixels = labels, tasks, pixels
        self._task_of, self._columns = task_of, dict(columns or {})

    @property
    def labels(self) -> Tensor:
        """int64 [n], class indices.

        Raises:
            OutOfReach: The samples were stored in a memory without labels, or the stream has no
                labels.
        """
        return self._there("labels", self._labels)

    @property
    def pixels(self) -> Tensor:
        """uint8 [n, C, H, W], the images as stored, not augmented.

        Raises:
            OutOfReach: The batch comes from a loader of Avalanche, which has no pixels.
        """
        return self._there("pixels", self._pixels)

    @property
    def tasks(self) -> Tensor:
        """int64 [n], task id of each sample; zeros where the stream gives no task ids."""
        if self._tasks is None:
            if self._task_of is not None and self._labels is not None:
                self._tasks = self._task_of[self._labels]
            else:
                size = (len(self.images),)
                self._tasks = torch.full(size, self.task or 0, device=self.images.device)
        return self._tasks

    def __getitem__(self, column: str) -> Tensor:
        """Another column that the memory stores with its samples, [n, ...].

        Raises:
            OutOfReach: There is no such column.
        """
        return self._there(column, self._columns.get(column))

    def _there(self, name: str, values: Tensor | None) -> Tensor:
        if values is None:
            raise OutOfReach(
                expected=f"a batch whose samples have {name}",
                found="none",
                fix=f"Store {name} with the samples of the memory, or do not read them here",
            )
        return values

    @property
    def new(self) -> "TrainBatch":
        """The samples of the present experience: the batch itself unless others joined it."""
        return self if self._whole_new is None else self._whole_new

    def minibatch(self) -> list[Tensor]:
        """Images, labels and tasks, as Avalanche's loops expect; -1 in place of missing labels."""
        labels = self._labels
        if labels is None:
            labels = torch.full((len(self.images),), -1, device=self.images.device)
        return [self.images, labels, self.tasks]

    def joined(self, old: "TrainBatch") -> "TrainBatch":
        """These samples, then ``old`` ones, as one batch."""
        labelled = self._labels is not None
        made = TrainBatch(
            torch.cat([self.images, old.images]),
            torch.cat([self.labels, old.labels]) if labelled else None,
            task=self.task,
            tasks=torch.cat([self.tasks, old.tasks]),
        )
        made._whole_new, made.old = self.new, old
        return made

    def replaced(self, images: Tensor, labels: Tensor, tasks: Tensor, new: int) -> "TrainBatch":
        """The batch that a plugin made of this one: ``new`` samples, then those that it added."""
        labelled = self._labels is not None
        made = TrainBatch(images, labels if labelled else None, task=self.task, tasks=tasks)
        if new >= len(images):
            made._pixels = self._pixels if len(images) == len(self) else None
            return made
        parts = [
            TrainBatch(images[part], labels[part] if labelled else None, tasks=tasks[part])
            for part in (slice(new), slice(new, None))
        ]
        parts[0]._pixels = self._pixels if len(self) == new else None
        made._whole_new, made.old = parts
        return made

    def __repr__(self) -> str:
        """Show the numbers of new and old samples, without any values."""
        old: Any = 0 if self.old is None else len(self.old)
        return f"TrainBatch({len(self) - old} new, {old} old)"
