"""Curves of the figures that take more than a mean to compute. NumPy only."""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["expected_best", "pareto", "profile", "shortfalls", "windows"]


def expected_best(scores: Sequence[float | None]) -> np.ndarray:
    """Expected best score of 1, 2, ..., R trials that are drawn from these R.

    Dodge et al. 2019 (arXiv 1909.03004), with replacement: the best of n draws is at most the
    i-th smallest score with probability (i/R)^n.

    Args:
        scores: Scores of R trials; None for a failed one, which counts as 0, since it used budget.

    Returns:
        float64 [R].
    """
    ordered = np.sort([0.0 if score is None else score for score in scores])
    count = len(ordered)
    below = (np.arange(count + 1) / count)[None] ** np.arange(1, count + 1)[:, None]
    return np.diff(below, axis=1) @ ordered


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto-optimal (cost, value) points, by rising cost.

    A point is dominated by one whose cost is not larger and whose value is not smaller, if they
    differ.
    """
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if (
            not front
            or points[place][1] > points[front[-1]][1]
            or (points[place] == points[front[-1]])
        ):
            front.append(place)
    return front


def shortfalls(
    accuracies: Mapping[str, Mapping[str, float]], best: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Ratio of each method's error to the lowest error, per stream.

    Args:
        accuracies: Accuracy by method and stream; every method has every stream of ``best``.
        best: Best accuracy by stream, over all rows of the table; at least that of each method.

    Returns:
        By method (1 - accuracy) / (1 - best), float64 [streams], streams sorted by name.
    """
    settings = sorted(best)
    table = np.array([[1 - row[s] for s in settings] for row in accuracies.values()], dtype=float)
    table = table.reshape(len(accuracies), len(settings))
    lowest = np.array([1 - best[s] for s in settings], dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Rounded, so that 1 - 0.8 is exactly twice 1 - 0.9.
        ratios = np.where(table == lowest, 1.0, np.round(table / lowest, 12))
    return dict(zip(accuracies, ratios, strict=True))


def profile(ratios: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Fraction of the streams in which a method's ratio is at most each value of ``at``."""
    return (ratios[None] <= at[:, None]).mean(axis=1)


def windows(flags: Sequence[bool] | np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in [0, 1] and means of windows of ``size`` values; the last one may be shorter."""
    values = np.asarray(flags, dtype=float)
    starts = np.arange(0, len(values), size)
    ends = np.minimum(starts + size, len(values))
    means = np.array([values[a:b].mean() for a, b in zip(starts, ends, strict=True)])
    return (starts + ends) / (2 * max(1, len(values))), means
