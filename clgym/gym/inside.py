"""Tests inside the experiences of a single-pass stream.

Training pauses for such a test, a separate learner predicts from the present state, and the
predictions are kept on disk until the experience is over.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from clgym.checksums import is_undamaged, with_checksum
from clgym.files import write_atomic
from clgym.gym.anytime import moments
from clgym.gym.folder import LEARNER, take_state
from clgym.gym.phase import Arrays
from clgym.gym.testing import Tester
from clgym.messages import AnytimeTest, TestDue
from clgym.scenario import Stream

__all__ = ["TestsInside"]


class TestsInside:
    """Tests the learner inside the experiences of a single-pass stream; does nothing on others."""

    __test__ = False  # pytest would collect a class of this name as a test

    def __init__(self, stream: Stream, out: Path, tester: Tester) -> None:
        """Prepare the tests, without a request to a learner.

        Args:
            stream: The learning stream.
            out: Absolute path of the run's output folder.
            tester: Sends test rows to learners.
        """
        self._stream, self._out, self._tester = stream, out, tester
        self._answers: _Answers | None = None

    def can_resume(self, index: int) -> bool:
        """Whether the stored predictions of an interrupted experience are undamaged."""
        return _Answers.can_resume(self._file(index))

    def begin(self, index: int, resume: bool) -> AnytimeTest | None:
        """Return the tests inside an experience; None if there are none.

        Args:
            index: Index of the experience.
            resume: Whether training continues inside it, so that earlier predictions are kept.
        """
        if not self._stream.anytime:
            return None
        self._answers = _Answers(self._file(index), resume)
        return AnytimeTest(at=moments(self._stream, index), state=self._state(index))

    def test(self, index: int, due: TestDue) -> None:
        """Test the present state of training, then let training continue."""
        assert self._answers is not None
        state = take_state(self._out, self._state(index).name)
        self._answers.put(due.images, self._tester.anytime(index, state))
        state.unlink()

    def end(self, index: int, state: Path) -> Arrays:
        """Predictions of the tests inside an experience and of the one at its end."""
        if self._answers is None:
            return {}
        self._answers.put(moments(self._stream, index)[-1], self._tester.anytime(index, state))
        return self._answers.arrays()

    def saved_arrays(self, index: int, piece: Arrays) -> Arrays:
        """Predictions inside an experience according to its piece, and their rows."""
        if "anytime_images" not in piece:
            return {}
        pool, order = self._tester.exposed(index)
        return {
            "anytime_images": piece["anytime_images"],
            "anytime_predicted": piece["anytime_predicted"],
            "anytime_row": pool.row[order].astype(np.int64),
            "anytime_label": pool.label[order].astype(np.int32),
        }

    def clear(self) -> None:
        """Delete the files for a continuation inside the experience."""
        if self._answers is not None:
            self._answers.clear()

    def _state(self, index: int) -> Path:
        """Path at which the learner saves its state for a test."""
        return self._out / LEARNER / f"tested-{index}.safetensors"

    def _file(self, index: int) -> Path:
        """Path at which the gym stores the predictions."""
        return self._out / f"answers-inside-{index}.safetensors"


class _Answers:
    """Predicted classes by the number of training images after which they were made."""

    def __init__(self, path: Path, resume: bool) -> None:
        """Begin without predictions, or with those of an earlier process (``resume``)."""
        self._path = path
        self._answers: dict[int, np.ndarray] = {}
        if resume and path.is_file():
            kept = load(path.read_bytes())
            self._answers = {int(images): predicted for images, predicted in kept.items()}

    @staticmethod
    def can_resume(path: Path) -> bool:
        """Whether a file of predictions is undamaged or missing."""
        return not path.exists() or is_undamaged(path, required=True)

    def put(self, images: int, predicted: np.ndarray) -> None:
        """Store the predictions of one test, int32 [n]."""
        self._answers[images] = predicted
        kept = {str(images): predicted for images, predicted in self._answers.items()}
        write_atomic(self._path, with_checksum(save(kept)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Numbers of training images, int64 [m] ascending, and predictions at each, int32 [m x n].

        Empty if there was no test.
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
