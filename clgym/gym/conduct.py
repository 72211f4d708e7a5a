"""What the gym looks at while a run goes on: does testing change the learner, or what it answers?

A learner that may see test images could learn from them. Its state after training is compared with
that after testing, and some images are answered a second time, in another order and other batches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clgym.errors import BadAnswer, OutOfReach, StrategyFailed, WorkerDied
from clgym.gym.withheld_order import permutation
from clgym.results.conduct import Cause

__all__ = ["REPEAT_BATCH", "Repetition", "check_memory", "compared", "repeated_places"]

REPEAT_BATCH = 100
"""Images a batch at the second reading: other ones share it than at the first."""
_SHARE, _LEAST, _MOST = 8, 8, 256
"""Images per image that is answered again, and the limits of how many are."""
_TOLERANCE = {"cpu": 1e-3}
"""Difference of logits, relative to the largest, that rounding explains: batches of another size
take other kernels. On other devices 0.01."""


@dataclass(frozen=True)
class Repetition:
    """Outcome of the second reading."""

    images: int
    differing: int
    """Images that got another answer."""
    cause: Cause | None
    """What such answers depend on."""


def check_memory(declared: int, stored: int) -> None:
    """Refuse more stored samples than the strategy declared before the run.

    Raises:
        OutOfReach: its memory holds more.
    """
    if stored > declared:
        raise OutOfReach(
            expected=f"at most {declared} stored samples, as the strategy declared",
            found=f"{stored}",
            fix="Declare them in the strategy's needs: Needs(memory=...)",
        )


def repeated_places(key: str, count: int, index: int) -> np.ndarray:
    """Which of ``count`` images are answered again, int64: a sample that the learner cannot know.

    Args:
        key: Key of the run's orders.
        count: Images of the evaluation.
        index: The experience.
    """
    wanted = min(max(count // _SHARE, _LEAST), _MOST, count)
    return permutation(key, count, index, -2)[:wanted]


def compared(first: np.ndarray, ask: Callable[[], np.ndarray], device: str) -> Repetition:
    """Compare answers with the second ones; where they differ, ask a third time to learn why.

    Args:
        first: Logits of the images asked for, float32 [n, classes].
        ask: Asks for the same images again, always in the same order and batches.
        device: Where the learner computes.

    Raises:
        WorkerDied: the learner did not live to answer.
    """
    count = len(first)
    try:
        second = ask()
        differing = _differing(first, second, device)
        if not differing:
            return Repetition(count, 0, None)
        same = not _differing(second, ask(), device)
    except WorkerDied:
        raise
    except (StrategyFailed, BadAnswer):  # it could answer these images before
        return Repetition(count, count, "earlier predictions")
    return Repetition(count, differing, "the batch" if same else "earlier predictions")


def _differing(one: np.ndarray, other: np.ndarray, device: str) -> int:
    """Rows whose logits are further apart than rounding explains."""
    finite = np.isfinite(one) & np.isfinite(other)
    scale = np.abs(one[np.isfinite(one)]).max(initial=1e-30)
    with np.errstate(invalid="ignore"):
        apart = np.where(finite, np.abs(one - other), np.where(one == other, 0, np.inf))
    allowed = _TOLERANCE.get(device.partition(":")[0], 1e-2) * scale
    return int((apart.max(axis=1) > allowed).sum())
