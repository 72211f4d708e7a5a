"""Learning rates by epoch: constant, in steps, along a cosine; and the epochs of the steps.

A schedule is a function from the epoch, counted from 0, to the rate of that epoch. It is a value:
two schedules with equal fields are equal, and the ``repr`` describes it. This module does not
import torch.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Constant", "Cosine", "Schedule", "Steps", "at_fractions", "milestones"]

Schedule = Callable[[int], float]
"""The learning rate of an epoch."""


@dataclass(frozen=True)
class Constant:
    """One rate for all epochs."""

    lr: float

    def __call__(self, epoch: int) -> float:
        """Rate of an epoch."""
        return self.lr


@dataclass(frozen=True)
class Steps:
    """A rate that is multiplied by ``decay`` at each of the ``drops``."""

    lr: float
    drops: tuple[int, ...]
    """Epochs at which a lower rate begins."""
    decay: float = 0.1

    def __call__(self, epoch: int) -> float:
        """Rate of an epoch."""
        return self.lr * self.decay ** sum(epoch >= drop for drop in self.drops)


@dataclass(frozen=True)
class Cosine:
    """A rate that falls along half a cosine: ``lr / 2 (1 + cos(pi epoch / epochs))``."""

    lr: float
    epochs: int

    def __call__(self, epoch: int) -> float:
        """Rate of an epoch: ``lr`` for the first; the epoch after the last would have 0."""
        return self.lr / 2 * (1 + math.cos(math.pi * epoch / self.epochs))


def milestones(count: int, epochs: int) -> tuple[int, ...]:
    """Epochs at the fractions 2i / (2 count + 1) of all, i = 1..count, truncated.

    This is the rule of Cha & Cho's protocol (arXiv 2403.09066). With few epochs, some would be 0,
    where no rate can fall; these are left out.
    """
    places = (2 * i * epochs // (2 * count + 1) for i in range(1, count + 1))
    return tuple(place for place in places if place > 0)


def at_fractions(fractions: Iterable[float], epochs: int) -> tuple[int, ...]:
    """Epochs at fractions of all, truncated; epoch 0 is left out, as in `milestones`."""
    # Rounded first: in binary 0.55 of 100 epochs is a little more than 55.
    places = (math.floor(round(share * epochs, 9)) for share in fractions)
    return tuple(place for place in places if place > 0)
