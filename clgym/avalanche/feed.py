"""Loader of an experience for Avalanche's loops; the gym may save between two of its batches."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from clgym._moved import report_renamed
from clgym.models.training import Position
from clgym.strategy import Augment, Experience, TrainBatch

__all__ = ["TrainLoader"]

report_renamed(__name__)


class TrainLoader:
    """The loader of a template: one pass an epoch over the experience's tensors.

    The code after ``yield`` runs once the step with that batch is complete, all hooks included:
    there the position moves and the gym may save.

    Attributes:
        batch: The present batch, as the experience gave it; None while a plugin's loader is used.
        source: A plugin's loader, from which batches are read instead; None without one.
        n_new: Number of new samples in the present batch; they come first.
        rate: The learning rate by epoch; None leaves the optimizer's.
        merges: Whether the last batch of an epoch has joined the one before.
    """

    def __init__(
        self,
        experience: Experience,
        size: int,
        epochs: int,
        position: Position,
        augment: Augment | None = None,
        *,
        safe: bool = True,
    ) -> None:
        """Feed ``experience`` from ``position`` on, ``size`` rows a batch.

        Args:
            experience: Experience to train on.
            size: Rows per batch.
            epochs: Number of passes.
            position: Position at which to continue; it moves as training proceeds.
            augment: See `Experience.batches`.
            safe: Whether the gym may save between two steps.
        """
        self.experience, self.size, self.epochs = experience, size, epochs
        self.position, self.augment = position, augment
        self.batch: TrainBatch | None = None
        self.source: Any = None
        self.rate: Callable[[int], float] | None = None
        self.n_new, self.merges = 0, False
        self._safe_point = experience.safe_point if safe else None

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self.source) if self.source is not None else self.experience.steps(self.size)

    def __iter__(self) -> Iterator[Any]:
        """One epoch from the position on: batches of [images, class indices, task ids]."""
        here = self.position
        batches: Iterable[Any] = self._own() if self.source is None else self._foreign()
        for parts in batches:
            yield parts
            here.step += 1
            if self._safe_point is not None:
                self._safe_point()
        here.epoch, here.step = here.epoch + 1, 0

    def _own(self) -> Iterator[list[Tensor]]:
        here, self.merges = self.position, self.experience.merges(self.size)
        for batch in self.experience.batches(
            self.size, epoch=here.epoch, epochs=self.epochs, augment=self.augment, start=here.step
        ):
            self.batch, self.n_new = batch, len(batch)
            yield batch.minibatch()

    def _foreign(self) -> Iterator[Any]:
        self.batch, experience, here = None, self.experience, self.position
        try:
            for parts, new in _merged(self.source, self.size, experience.min_batch):
                self.n_new, self.merges = new, new > self.size
                experience.count(new)
                experience.epoch, experience.step = here.epoch, here.step
                yield parts
                told = {"steps": len(self), "epochs": self.epochs}
                experience.progress(here.epoch, here.step, **told)
        finally:
            experience.epoch = experience.step = None


def _merged(batches: Iterable[Any], size: int, least: int) -> Iterator[tuple[Any, int]]:
    """Batches with their numbers of new samples; a last one below ``least`` joins another."""
    held: tuple[Any, int] | None = None
    for parts in batches:
        # Avalanche's replay loaders put the new samples first, a full batch of them.
        new = min(size, len(parts[1]))
        if least == 1:
            yield parts, new
        elif held is not None and len(parts[1]) < least:
            joined = [torch.cat(pair) for pair in zip(held[0], parts, strict=True)]
            held = joined, held[1] + new
        else:
            if held is not None:
                yield held
            held = parts, new
    if held is not None:
        yield held
