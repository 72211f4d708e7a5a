"""Answers to many batches that stay on the device until they are read, all of them at once.

Each read makes the host wait for the device. On a CPU nothing is gained by waiting, and every
answer is read as it comes.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["LateAnswers"]


class LateAnswers:
    """One answer for each row, put in batch by batch, and checked when it is read."""

    def __init__(self, rows: int, width: int, check: Callable[[np.ndarray, str], None]) -> None:
        """Begin without answers.

        Args:
            rows: Number of rows.
            width: Numbers in the answer to a row.
            check: Gets the answer to a batch and the batch in words, and raises what is wrong.
        """
        self._found, self._check = np.empty((rows, width), dtype=np.float32), check
        self._waiting: list[tuple[slice, Tensor]] = []

    def put(self, part: slice, answer: Tensor) -> None:
        """Take in the answer to some rows.

        Args:
            part: The rows, from ``start`` to ``stop``.
            answer: float32 [n, width]; its owner may overwrite it at once.
        """
        if _is_read_at_once(answer):
            self._take(part, answer.numpy())
        else:
            self._waiting.append((part, answer.clone()))

    def read(self) -> np.ndarray:
        """Answers to all rows that were put in, float32 [rows, width].

        Raises:
            ClgymError: The error that ``check`` raises for the first wrong batch.
        """
        if self._waiting:
            values = torch.cat([answer for _, answer in self._waiting]).cpu().numpy()
            parts, self._waiting, start = [part for part, _ in self._waiting], [], 0
            for part in parts:
                end = start + part.stop - part.start
                self._take(part, values[start:end])
                start = end
        return self._found

    def _take(self, part: slice, values: np.ndarray) -> None:
        self._check(values, f"rows {part.start + 1} to {part.stop} of {len(self._found)}")
        self._found[part] = values


def _is_read_at_once(answer: Tensor) -> bool:
    return answer.device.type == "cpu"
