"""Features of images on pretraining streams, computed by a strategy in batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clgym.errors import BadAnswer

__all__ = ["features_in_batches"]


def features_in_batches(
    count: int, size: int, ask: Callable[[slice], Tensor], report: Callable[[int], None]
) -> np.ndarray:
    """Features of all rows, float32 [count, width], in their order.

    Args:
        count: Number of rows.
        size: Number of rows per batch.
        ask: Returns the strategy's features of some of the rows.
        report: Called with the number of rows that are done.

    Raises:
        BadAnswer: A reply is not one finite feature vector per image, or widths differ.
    """
    parts: list[np.ndarray] = []
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        width = parts[0].shape[1] if parts else None
        parts.append(_checked_features(ask(rows), rows.stop - start, width))
        report(rows.stop)
    return np.concatenate(parts)


# Any: a plugin may return anything.
def _checked_features(answer: Any, count: int, width: int | None) -> np.ndarray:
    """Return the features of one batch, float32 [count, width]; None allows any width.

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
    features = answer.detach().float()
    if not torch.isfinite(features).all():
        raise BadAnswer(
            expected="finite features from represent",
            found="values that are not finite",
            fix="Check the training loss, which may have diverged; try a lower learning rate",
        )
    return features.cpu().numpy()
