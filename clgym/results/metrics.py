"""Metrics of the accuracy matrix: row i is after experience i, column j is on experience j."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

__all__ = [
    "accuracy_by_group",
    "area_under_curve",
    "average_incremental_accuracy",
    "backward_transfer",
    "forgetting",
    "forward_transfer",
    "matrix_summary",
]

Matrix = Sequence[Sequence[float | None]]


class MatrixSummary(TypedDict):
    """Metrics of a record that are computed from its accuracy matrix."""

    last_accuracy: float
    average_incremental_accuracy: float | None
    forgetting: float | None
    backward_transfer: float | None
    forward_transfer: float | None


def _array(matrix: Matrix) -> np.ndarray:
    """float64 [T, T], NaN where not measured."""
    return np.array([[np.nan if v is None else v for v in row] for row in matrix], dtype=float)


def _mean(values: np.ndarray) -> float | None:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def accuracy_by_group(hits: np.ndarray, group: np.ndarray, count: int) -> list[float | None]:
    """Accuracy on the rows of each group, in [0, 1]; None for a group without rows.

    One pass over the rows, whatever the number of groups.

    Args:
        hits: bool [n], whether each prediction is correct.
        group: int [n], group of each row, below ``count``.
        count: Number of groups.
    """
    rows = np.bincount(group, minlength=count)
    sums = np.bincount(group, weights=hits, minlength=count)
    return [float(s / n) if n else None for s, n in zip(sums, rows, strict=True)]


def average_incremental_accuracy(after: Sequence[float]) -> float:
    """Mean over experiences of the accuracy after each (Rebuffi et al. 2017), in [0, 1]."""
    return float(np.mean(after))


def area_under_curve(images: Sequence[int], accuracy: Sequence[float]) -> float:
    """Area under the accuracy over training images, divided by all images (Koh et al. 2022).

    Each accuracy is weighted by the number of images since the measurement before it; with equal
    distances the area is the mean accuracy.

    Args:
        images: Number of training images seen at each measurement, ascending.
        accuracy: Accuracy at each measurement, in [0, 1].
    """
    return float(np.dot(accuracy, np.diff(images, prepend=0)) / images[-1])


def forgetting(matrix: Matrix) -> float | None:
    """Mean over earlier experiences of best minus final accuracy (Chaudhry et al. 2018).

    In [-1, 1]; None with fewer than two experiences.
    """
    table = _array(matrix)
    last = len(table) - 1
    columns = [j for j in range(last) if not np.isnan(table[j:last, j]).all()]
    drops = [np.nanmax(table[j:last, j]) - table[last, j] for j in columns]
    return _mean(np.array(drops, dtype=float))


def backward_transfer(matrix: Matrix) -> float | None:
    """Mean over earlier experiences of final minus first accuracy (Lopez-Paz & Ranzato 2017).

    In [-1, 1]; None with fewer than two experiences.
    """
    table = _array(matrix)
    last = len(table) - 1
    return _mean(np.array([table[last, j] - table[j, j] for j in range(last)], dtype=float))


def forward_transfer(matrix: Matrix, chance: Sequence[float]) -> float | None:
    """Mean over later experiences of accuracy just before learning them, minus chance.

    Args:
        matrix: Accuracy matrix; only experiences measured before they were learned count.
        chance: For each experience, the accuracy of guessing among the columns it is scored on.

    Returns:
        Forward transfer in [-1, 1]; None if no experience was tested before it was learned.
    """
    table = _array(matrix)
    gains = [table[j - 1, j] - chance[j] for j in range(1, len(table))]
    return _mean(np.array(gains, dtype=float))


def matrix_summary(
    matrix: Matrix, after: Sequence[float | None], chance: Sequence[float]
) -> MatrixSummary:
    """Compute all metrics of a record that depend on its accuracy matrix alone.

    Over a part of the experiences, the means and maxima would be other numbers than the published
    ones, so all but the last accuracy are None if an experience was not tested.

    Args:
        matrix: Accuracies in [0, 1], [T, T].
        after: Accuracy after each experience over all classes seen, [T]; None if it was not tested,
            which the last one always was.
        chance: Accuracy of guessing on each experience, [T].
    """
    last, known = after[-1], [value for value in after if value is not None]
    assert last is not None
    if len(known) < len(after):
        return {
            "last_accuracy": last,
            "average_incremental_accuracy": None,
            "forgetting": None,
            "backward_transfer": None,
            "forward_transfer": None,
        }
    return {
        "last_accuracy": last,
        "average_incremental_accuracy": average_incremental_accuracy(known),
        "forgetting": forgetting(matrix),
        "backward_transfer": backward_transfer(matrix),
        "forward_transfer": forward_transfer(matrix, chance),
    }
