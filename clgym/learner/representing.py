"""Features of images on pretraining streams, asked of a strategy batch by batch."""

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
        size: Rows a batch.
        ask: Asks the strategy for the features of some of the rows.
        report: Gets the number of rows that are done.

    Raises:
        BadAnswer: a reply is not a finite feature vector for each image, or widths differ.
    """
    parts: list[np.ndarray] = []
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        width = parts[0].shape[1] if parts else None
        parts.append(_checked_features(ask(rows), rows.stop - start, width))
        report(rows.stop)
    return np.concatenate(parts)


# Any: what a plugin returns.
def _checked_features(answer: Any, count: int, width: int | None) -> np.ndarray:
    """Features of one batch, float32 [count, width]; None: of any width.

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
    features = answer.detach().float()
    if not torch.isfinite(features).all():
        raise BadAnswer(
            expected="finite features from represent",
            found="values that are not finite",
            fix="Check the training loss, which may have diverged; try a lower learning rate",
        )
    return features.cpu().numpy()
