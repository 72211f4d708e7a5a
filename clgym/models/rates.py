"""Schedules of the methods on pretrained networks: `schedules` and more cosines."""

import math
from dataclasses import dataclass
from typing import Literal

from clgym.models.schedules import Constant, Schedule, Steps

__all__ = ["FallingTo", "QuarterCosine", "ScheduleName", "schedule", "spread"]

ScheduleName = Literal["constant", "step", "cosine", "quarter-cosine", "released-cosine"]
"""Courses of a learning rate over the epochs of a session."""


@dataclass(frozen=True)
class FallingTo:
    """A rate that falls to ``least`` along half a cosine."""

    lr: float
    epochs: int
    least: float = 0.0

    def __call__(self, epoch: int) -> float:
        """Rate of an epoch; ``least`` would be that of the one after the last."""
        falling = (self.lr - self.least) / 2
        return self.least + falling * (1 + math.cos(math.pi * epoch / self.epochs))


@dataclass(frozen=True)
class QuarterCosine:
    """A rate that falls nearly to 0 in the last epoch, along the falling quarter of a cosine.

    With ``lag`` epochs more the beginning is repeated and the end not reached.
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

    As in the protocol's code for pretrained networks, some may be 0 or equal: a rate falls before
    the first epoch, or twice. `clgym.models.schedules.milestones` leaves those at 0 out.
    """
    return tuple(2 * i * epochs // (2 * count + 1) for i in range(1, count + 1))


def schedule(
    name: ScheduleName, lr: float, epochs: int, drops: tuple[int, ...], decay: float, least: float
) -> Schedule:
    """The schedule of one optimiser's group.

    Args:
        name: Its kind.
        lr: Rate of the first epoch.
        epochs: Passes over a session.
        drops: Epochs at which step multiplies by ``decay``.
        decay: Factor at each of them.
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
