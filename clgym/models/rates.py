"""Schedules of the methods on pretrained networks: those of `schedules` and further cosines."""

import math
from dataclasses import dataclass
from typing import Literal

from clgym.models.schedules import Constant, Schedule, Steps

__all__ = ["FallingTo", "QuarterCosine", "ScheduleName", "schedule", "spread"]

ScheduleName = Literal["constant", "step", "cosine", "quarter-cosine", "released-cosine"]
"""Names of the schedules of a learning rate over the epochs of a session."""


@dataclass(frozen=True)
class FallingTo:
    """A rate that falls to ``least`` along half a cosine."""

    lr: float
    epochs: int
    least: float = 0.0

    def __call__(self, epoch: int) -> float:
        """Rate of an epoch; the epoch after the last would have ``least``."""
        falling = (self.lr - self.least) / 2
        return self.least + falling * (1 + math.cos(math.pi * epoch / self.epochs))


@dataclass(frozen=True)
class QuarterCosine:
    """A rate that falls nearly to 0 in the last epoch, along the falling quarter of a cosine.

    With ``lag`` additional epochs the beginning is repeated, and the end is not reached.
    """

    lr: float
    epochs: int
    lag: int = 0

    def __call__(self, epoch: int) -> float:
        """Rate of an epoch; a single epoch has ``lr``."""
        if self.epochs == 1:
            return self.lr
        place = max(epoch - self.lag, 0) / (self.epochs - 1)
        return self.lr * math.cos(99 / 200 * math.pi * place)


def spread(count: int, epochs: int) -> tuple[int, ...]:
    """``count`` epochs at the fractions 2i / (2 count + 1) of all, i = 1..count, truncated.

    As in the protocol's code for pretrained networks, some may be 0 or equal, so that a rate falls
    before the first epoch, or twice. `clgym.models.schedules.milestones` omits epoch 0.
    """
    return tuple(2 * i * epochs // (2 * count + 1) for i in range(1, count + 1))


def schedule(
    name: ScheduleName, lr: float, epochs: int, drops: tuple[int, ...], decay: float, least: float
) -> Schedule:
    """Return the schedule of a parameter group of an optimiser.

    Args:
        name: Name of the schedule.
        lr: Rate of the first epoch.
        epochs: Number of passes over a session.
        drops: Epochs at which step multiplies the rate by ``decay``.
        decay: Factor at each of these epochs.
        least: Rate that cosine falls to.
    """
    made: dict[ScheduleName, Schedule] = {
        "constant": Constant(lr),
        "step": Steps(lr, drops, decay),
        "cosine": FallingTo(lr, epochs, least),
        "quarter-cosine": QuarterCosine(lr, epochs),
        "released-cosine": QuarterCosine(lr, epochs, lag=1),
    }
    return made[name]
