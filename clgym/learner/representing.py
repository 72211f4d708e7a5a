"""Features of images on pretraining streams, asked of a strategy batch by batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from clgym.errors import BadAnswer
from clgym.learner.late_answers import LateAnswers

__all__ = ["features_in_batches"]


def features_in_batches(
    count: int, size: int, ask: Callable[[slice], Tensor], report: Callable[[int], None]
) -> np.ndarray:
    """Features of all rows, float32 [count, width], in their order.

    Args:
        count: Number of rows.
        size: Rows a batch.
        ask: Asks the strategy for the features of some of the rows.
        report: Gets the number of rows that are done.

    Raises:
        BadAnswer: a reply is not a finite feature vector for each image, or widths differ.
    """
    found: LateAnswers | None = None
    width: int | None = None
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        features = _shaped_features(ask(rows), rows.stop - start, width)
        width = features.shape[1]
        found = found or LateAnswers(count, width, _check_finite)
        found.put(rows, features)
        report(rows.stop)
    assert found is not None  # a request has rows
    return found.read()


# Any: what a plugin returns.
def _shaped_features(answer: Any, count: int, width: int | None) -> Tensor:
    """Features of one batch, float32 [count, width], where they lie; None: of any width.

    Raises:
        BadAnswer: they are not that.
    """
    plain = isinstance(answer, Tensor) and not answer.is_complex()
    shape = tuple(answer.shape) if isinstance(answer, Tensor) else None
    fits = plain and answer.ndim == 2 and len(answer) == count and answer.shape[1] > 0
    if not fits or (width is not None and answer.shape[1] != width):
        raise BadAnswer(
            expected=f"features of shape ({count}, {width or 'width'}) from represent",
            found=f"a {type(answer).__name__}" if shape is None else str(shape),
            fix="Return one vector of real numbers for each image, of one width for all",
        )
    return answer.detach().float()


def _check_finite(features: np.ndarray, where: str) -> None:
    if not np.isfinite(features).all():
        raise BadAnswer(
            expected="finite features from represent",
            found=f"values that are not finite ({where})",
            fix="Check the training loss, which may have diverged; try a lower learning rate",
        )
