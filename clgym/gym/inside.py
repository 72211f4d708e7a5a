"""Answers of tests inside an experience, kept on disk until the experience is over."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from clgym.checksums import is_undamaged, with_checksum
from clgym.files import write_atomic

__all__ = ["InsideAnswers"]


class InsideAnswers:
    """Predicted classes by the number of training images after which they were made."""

    def __init__(self, path: Path, resume: bool) -> None:
        """Begin without answers, or (``resume``) with those that an earlier process left."""
        self._path = path
        self._answers: dict[int, np.ndarray] = {}
        if resume and path.is_file():
            kept = load(path.read_bytes())
            self._answers = {int(images): predicted for images, predicted in kept.items()}

    @staticmethod
    def can_resume(path: Path) -> bool:
        """Whether a file of answers holds what was written; a missing one holds none."""
        return not path.exists() or is_undamaged(path, required=True)

    def put(self, images: int, predicted: np.ndarray) -> None:
        """Keep the answers of one test, int32 [n]."""
        self._answers[images] = predicted
        kept = {str(images): predicted for images, predicted in self._answers.items()}
        write_atomic(self._path, with_checksum(save(kept)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Numbers of training images, int64 [m] ascending, and the answers to them, int32 [m x n].

        Nothing where there was no test.
        """
        if not self._answers:
            return {}
        moments = sorted(self._answers)
        return {
            "anytime_images": np.array(moments, dtype=np.int64),
            "anytime_predicted": np.concatenate([self._answers[at] for at in moments]),
        }

    def clear(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
