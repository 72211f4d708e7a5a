"""The predictions file beside a record: predictions and labels of each phase."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clgym.errors import BadRecord
from clgym.files import sha256
from clgym.results.forgetting import AuditedRows
from clgym.results.record import AdaptationResult, Result

__all__ = ["NO_FILE", "PredictedRows", "StoredPredictions", "read_predictions"]

NO_FILE = "no such file"
"""Text of the problem that a predictions file is missing."""
_FIX = "Keep the files of a run together, or run it again"


@dataclass(frozen=True, eq=False)
class PredictedRows:
    """Predictions for the rows of one evaluation, or of one segment of an adaptation stream."""

    group: np.ndarray
    """int [n], experience that each row measures; in a segment, domain of each row."""
    row: np.ndarray
    """int [n], row number in the split of its dataset."""
    label: np.ndarray
    """int [n], true class index."""
    predicted: np.ndarray
    """int [n], predicted class index."""
    confidence: np.ndarray | None = None
    """float [n] in [0, 1], largest class probability; None in a learning phase."""

    def by_image(self) -> "PredictedRows":
        """Return the same rows sorted by group, then row, since orders differ between runs."""
        order = np.lexsort((self.row, self.group))
        sure = None if self.confidence is None else self.confidence[order]
        return PredictedRows(
            self.group[order], self.row[order], self.label[order], self.predicted[order], sure
        )

    @property
    def hits(self) -> np.ndarray:
        """Whether each prediction is correct, bool [n]."""
        return self.predicted == self.label


class StoredPredictions:
    """The arrays of a predictions file, by evaluation and by segment."""

    def __init__(self, arrays: Mapping[str, np.ndarray], result: Result, file: Path) -> None:
        """Keep the arrays, which are checked when they are asked for.

        Args:
            arrays: All arrays of the file, by name.
            result: The result that the arrays belong to.
            file: The file, for messages.
        """
        self.arrays, self._result, self._file = arrays, result, file

    def after(self, experience: int) -> PredictedRows:
        """Return the predictions for all rows that were scored after an experience.

        Raises:
            BadRecord: The file has no such arrays, or they do not fit the record.
        """
        experiences = len(self._result.accuracy_matrix)
        group = self._integers(f"{experience}/experience", experiences)
        return self._rows(str(experience), group)

    def has_after(self, experience: int) -> bool:
        """Whether the file has any array of a test after an experience."""
        return any(name.startswith(f"{experience}/") for name in self.arrays)

    def by_head(self, experience: int) -> dict[str, np.ndarray]:
        """Return predicted classes, int [n], by head after an experience, in the order of `after`.

        Raises:
            BadRecord: Arrays do not fit the record.
        """
        start, classes = f"{experience}/head/", len(self._result.class_order)
        names = [name for name in self.arrays if name.startswith(start)]
        found = {name.removeprefix(start): self._integers(name, classes) for name in names}
        count = len(self._array(f"{experience}/predicted", "iu"))
        if any(len(predicted) != count for predicted in found.values()):
            raise self._misfit(f"arrays of different lengths in {start}")
        return found

    def anytime(self) -> tuple[list[int], list[float]]:
        """Return the measurements inside the experiences of a single-pass stream, in order.

        Returns:
            Training images seen at each measurement, and the accuracy there in [0, 1].

        Raises:
            BadRecord: The file has no such arrays, or they do not fit one another.
        """
        classes, images, accuracy = len(self._result.class_order), list[int](), list[float]()
        for i in range(len(self._result.accuracy_matrix)):
            label = self._integers(f"{i}/anytime_label", classes)
            predicted = self._integers(f"{i}/anytime_predicted", classes)
            moments = self._integers(f"{i}/anytime_images")
            if len(predicted) != len(label) * len(moments):
                raise self._misfit(f"arrays of different lengths in {i}/anytime")
            # The last measurement of an experience is at its end, where the next one begins.
            begun = images[-1] if images else 0
            images += (begun + moments).tolist()
            accuracy += (predicted.reshape(-1, len(label)) == label).mean(1).tolist()
        return images, accuracy

    def audits(self, count: int) -> tuple[AuditedRows, list[np.ndarray]]:
        """Return the rows that the audits of forgetting asked for, and the logits of each audit.

        Args:
            count: Number of audits.

        Raises:
            BadRecord: The file has no such arrays, or they do not fit the record.
        """
        classes = len(self._result.class_order)
        rows = AuditedRows(
            self._integers("audit/experience", len(self._result.accuracy_matrix)),
            self._integers("audit/row"),
            self._integers("audit/train", 2).astype(bool),
            self._integers("audit/label", classes),
        )
        found = [self.arrays.get(f"audit/logits/{number}") for number in range(count)]
        shape = (len(rows.row), classes)
        fits = [a is not None and a.shape == shape and a.dtype.kind == "f" for a in found]
        if not all(fits) or len({len(array) for array in vars(rows).values()}) > 1:
            raise self._misfit("arrays of other shapes in audit")
        return rows, [array for array in found if array is not None]

    def probed(self) -> np.ndarray:
        """Return the experience, int [n], of each training row that the last probes were fitted on.

        Raises:
            BadRecord: The file has no such arrays, or they do not fit the record.
        """
        experience = self._integers("probe/experience", len(self._result.accuracy_matrix))
        row = self._integers("probe/row")
        label = self._integers("probe/label", len(self._result.class_order))
        if len({len(experience), len(row), len(label)}) > 1:
            raise self._misfit("arrays of different lengths in probe")
        return experience

    def segments(self) -> list[PredictedRows]:
        """Return the predictions of each segment of an adaptation stream, in order.

        Raises:
            BadRecord: The file has no such arrays, or they do not fit the record.
        """
        adaptation = self._result.adaptation
        count = 0 if adaptation is None else len(adaptation.segments)
        # After a learning phase the arrays of segments have other names.
        prefix = "" if isinstance(self._result, AdaptationResult) else "shift/"
        return [self._segment(f"{prefix}{number}") for number in range(count)]

    def _segment(self, place: str) -> PredictedRows:
        domain = self._integers(f"{place}/domain")
        return self._rows(place, domain, self._array(f"{place}/confidence", "f"))

    def _rows(
        self, place: str, group: np.ndarray, confidence: np.ndarray | None = None
    ) -> PredictedRows:
        classes = len(self._result.class_order)
        rows = PredictedRows(
            group,
            self._integers(f"{place}/row"),
            self._integers(f"{place}/label", classes),
            self._integers(f"{place}/predicted", classes),
            confidence,
        )
        if len({len(array) for array in vars(rows).values() if array is not None}) > 1:
            raise self._misfit(f"arrays of different lengths in {place}")
        return rows

    def _integers(self, name: str, end: int | None = None) -> np.ndarray:
        """Return an array of integers from 0 to below ``end``."""
        array = self._array(name, "iu")
        if array.min() < 0 or (end is not None and array.max() >= end):
            limit = "" if end is None else f" to {end - 1}"
            raise self._misfit(f"values in {name} that lie outside 0{limit}")
        return array

    def _array(self, name: str, kinds: str) -> np.ndarray:
        array = self.arrays.get(name)
        if array is None:
            raise self._misfit(f"no array {name}")
        if array.ndim != 1 or not array.size or array.dtype.kind not in kinds:
            raise self._misfit(f"an array {name} of type {array.dtype} and shape {array.shape}")
        return array

    def _misfit(self, found: str) -> BadRecord:
        return BadRecord(
            expected=f"predictions in {self._file} that fit its record", found=found, fix=_FIX
        )


def read_predictions(folder: Path, result: Result) -> StoredPredictions:
    """Read a run's predictions file, after a check of its hash, which is done only here.

    Raises:
        BadRecord: The file does not exist, cannot be read, or is not the one that the record names.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    file = folder / result.predictions.file
    try:
        regular = file.is_file() or file.is_dir() or not file.exists()
        if file.parent != folder or not regular:  # reading a pipe or a device has no end
            raise BadRecord(
                expected=f"predictions in a file of {folder}", found=f"no file: {file}", fix=_FIX
            )
        data = file.read_bytes()
        if sha256(data) == result.predictions.sha256:
            return StoredPredictions(load(data), result, file)
        found = "other content, which does not hash to result.predictions.sha256"
    except FileNotFoundError:
        found = NO_FILE
    except OSError as error:
        found = str(error.strerror)
    except (SafetensorError, LookupError, TypeError, ValueError, MemoryError) as error:
        found = f"a file that cannot be read ({type(error).__name__}: {error})"
    raise BadRecord(expected=f"{file} with the hash that the record states", found=found, fix=_FIX)
