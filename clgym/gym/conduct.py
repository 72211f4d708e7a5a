"""Checks during a run: whether testing changes the learner, and what predictions depend on.

A learner that sees test images could learn from them. Its state after training is compared with
that after testing, and some images are predicted a second time, in another order and other batches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clgym.errors import (
    BadAnswer,
    OutOfMemory,
    OutOfReach,
    OutOfTime,
    StrategyFailed,
    WorkerDied,
)
from clgym.gym.plan import ResolvedRun
from clgym.gym.withheld_order import permutation
from clgym.results.conduct import Cause

__all__ = [
    "REPEAT_BATCH",
    "Repetition",
    "check_memory",
    "compared",
    "learned_apart",
    "repeated_places",
]

REPEAT_BATCH = 100
"""Number of images per batch in the second prediction, which differs from that in the first."""
_SHARE, _LEAST, _MOST = 8, 8, 256
"""One in `_SHARE` images is predicted again, but at least `_LEAST` and at most `_MOST`."""
_TOLERANCE = {"cpu": 1e-3}
"""Largest difference of logits, relative to the largest logit, that rounding explains, since
batches of another size use other kernels; 0.01 on other devices.
"""


@dataclass(frozen=True)
class Repetition:
    """Outcome of the second prediction."""

    images: int
    differing: int
    """Number of images with another prediction."""
    cause: Cause | None
    """What the differing predictions depend on."""


def check_memory(declared: int, stored: int) -> None:
    """Refuse more stored samples than the strategy declared before the run.

    Raises:
        OutOfReach: The memory holds more.
    """
    if stored > declared:
        raise OutOfReach(
            expected=f"at most {declared} stored samples, as the strategy declared",
            found=f"{stored}",
            fix="Declare them in the strategy's needs: Needs(memory=...)",
        )


def learned_apart(run: ResolvedRun) -> bool:
    """Whether each experience is learned by a learner of its own.

    Learners that are given all past data stay, since there is nothing that they could keep unseen.
    """
    return run.request.engine == "process" and not run.needs.past_data


def repeated_places(key: str, count: int, index: int) -> np.ndarray:
    """Indices of the images that are predicted again, int64: a sample unknown to the learner.

    Args:
        key: Key of the run's orders.
        count: Number of images of the evaluation.
        index: Index of the experience.
    """
    wanted = min(max(count // _SHARE, _LEAST), _MOST, count)
    return permutation(key, count, index, -2)[:wanted]


def compared(first: np.ndarray, ask: Callable[[], np.ndarray], device: str) -> Repetition:
    """Compare predictions with the second ones; if they differ, ask a third time to find the cause.

    Args:
        first: First logits of the images, float32 [n, classes].
        ask: Requests logits of the same images, always in the same order and batches.
        device: Device of the learner.

    Raises:
        WorkerDied: The learner's process died; it could predict these images before, so it was
            killed.
        OutOfMemory: There is too little memory, which says nothing about the predictions either.
        OutOfTime: The learner did not answer in time.
    """
    count = len(first)
    try:
        second = ask()
        differing = _differing(first, second, device)
        if not differing:
            return Repetition(count, 0, None)
        same = not _differing(second, ask(), device)
    except (WorkerDied, OutOfMemory, OutOfTime):
        raise
    except (StrategyFailed, BadAnswer):
        return Repetition(count, count, "earlier predictions")
    return Repetition(count, differing, "the batch" if same else "earlier predictions")


def _differing(one: np.ndarray, other: np.ndarray, device: str) -> int:
    """Number of rows whose logits differ by more than rounding explains."""
    finite = np.isfinite(one) & np.isfinite(other)
    scale = np.abs(one[np.isfinite(one)]).max(initial=1e-30)
    with np.errstate(invalid="ignore"):
        apart = np.where(finite, np.abs(one - other), np.where(one == other, 0, np.inf))
    allowed = _TOLERANCE.get(device.partition(":")[0], 1e-2) * scale
    return int((apart.max(axis=1) > allowed).sum())
