"""Learning rates by epoch, and milestones that follow from a number of epochs."""

import math
from collections.abc import Callable, Sequence

__all__ = ["RATES", "spread_milestones"]

Rate = Callable[[float, int, int, Sequence[int], float, float], float]
"""Function of first rate, epoch, epochs, milestones, decay and least rate."""


def _constant(
    first: float, epoch: int, epochs: int, marks: Sequence[int], decay: float, least: float
) -> float:
    return first


def _step(
    first: float, epoch: int, epochs: int, marks: Sequence[int], decay: float, least: float
) -> float:
    return first * decay ** sum(mark <= epoch for mark in marks)


def _cosine(
    first: float, epoch: int, epochs: int, marks: Sequence[int], decay: float, least: float
) -> float:
    return least + (first - least) / 2 * (1 + math.cos(math.pi * epoch / epochs))


def _quarter_cosine(
    first: float, epoch: int, epochs: int, marks: Sequence[int], decay: float, least: float
) -> float:
    # From the first rate nearly to 0 in the last epoch, along the falling quarter of a cosine.
    return first * math.cos(99 * math.pi * epoch / (200 * (epochs - 1))) if epochs > 1 else first


def _lagging_cosine(
    first: float, epoch: int, epochs: int, marks: Sequence[int], decay: float, least: float
) -> float:
    # Epochs 0 and 1 share a rate, and the last epoch does not reach the end of the curve.
    return _quarter_cosine(first, max(epoch - 1, 0), epochs, marks, decay, least)


RATES: dict[str, Rate] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "quarter-cosine": _quarter_cosine,
    "released-cosine": _lagging_cosine,
}
"""Courses of a learning rate over the epochs of a session, by name."""


def spread_milestones(epochs: int, count: int) -> tuple[int, ...]:
    """``count`` epochs at the shares 2i/(2 count + 1), rounded down; equal ones may occur."""
    return tuple(2 * i * epochs // (2 * count + 1) for i in range(1, count + 1))
