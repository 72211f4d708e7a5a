"""Deliberately wrong labels of training rows."""

from collections.abc import Sequence

import numpy as np

from clgym.draws import sequence
from clgym.errors import BadStream

__all__ = ["noisy_labels"]


def noisy_labels(
    labels: np.ndarray, classes: Sequence[int], fraction: float, seed: int
) -> np.ndarray:
    """Replace a fraction of the labels by another class of the same experience, drawn uniformly.

    Args:
        labels: int64 [n], true class indices of an experience's training rows.
        classes: Class indices of the experience; at least two.
        fraction: Fraction of the labels, in [0, 1], rounded to whole rows.
        seed: Seed of the choice of rows and of their new classes.

    Returns:
        int64 [n], for `clgym.scenario.Step.labels`.

    Raises:
        BadStream: The fraction is outside [0, 1], or there is no other class to choose.
    """
    if not 0 <= fraction <= 1 or (fraction > 0 and len(classes) < 2):
        raise BadStream(
            expected="a fraction from 0 to 1, and two classes or more in the experience",
            found=f"{fraction} of the labels of {len(classes)} class(es)",
            fix="Lower the fraction, or cut larger experiences",
        )
    draw = np.random.Generator(np.random.PCG64(sequence(seed, "label noise")))
    wrong = draw.permutation(len(labels))[: round(fraction * len(labels))]
    noisy, order = labels.copy(), np.array(classes, dtype=np.int64)
    if len(wrong):
        places = np.searchsorted(order, labels[wrong])
        shift = draw.integers(1, len(order), len(wrong))
        noisy[wrong] = order[(places + shift) % len(order)]
    return noisy
