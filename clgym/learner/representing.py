"""Features of images on pretraining streams, computed by a strategy in batches."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from clgym.errors import BadAnswer
from clgym.learner.late_answers import LateAnswers

__all__ = ["batches_of", "features_in_batches"]


def batches_of(count: int, size: int) -> list[slice]:
    """Rows of each batch, from ``start`` to ``stop``."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def features_in_batches(
    parts: Sequence[slice], answers: Iterable[Tensor], report: Callable[[int], None]
) -> np.ndarray:
    """Features of all rows, float32 [n, width], in their order.

    Args:
        parts: Rows of each batch, in order; at least one.
        answers: The strategy's features of each batch, in the same order.
        report: Called with the number of rows that are done.

    Raises:
        BadAnswer: A reply is not one finite feature vector per image, or widths differ.
    """
    found: LateAnswers | None = None
    width: int | None = None
    for rows, answer in zip(parts, answers, strict=True):
        features = _shaped_features(answer, rows.stop - rows.start, width)
        width = features.shape[1]
        found = found or LateAnswers(parts[-1].stop, width, _check_finite)
        found.put(rows, features)
        report(rows.stop)
    assert found is not None
    return found.read()


# Any: what a plugin returns.
def _shaped_features(answer: Any, count: int, width: int | None) -> Tensor:
    """Return the features of one batch, float32 [count, width], on their device.

    Raises:
        BadAnswer: They have another form.
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
