"""The reader of finished runs: the record, the predictions beside it, and their audit.

All code that compares, ranks, draws, verifies or reproduces runs opens them here. Checks that need
the scenario or the images of a run (class orders, labels) are in `clgym.protocol`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic

from clgym.errors import BadRecord
from clgym.files import repeated_keys, sha256
from clgym.results.consistency import impossible_numbers, own_problems, prediction_problems
from clgym.results.layout import RECORD, SERIES
from clgym.results.predictions import StoredPredictions, read_predictions
from clgym.results.record import Record, Result
from clgym.results.series import Series

__all__ = ["StoredRun", "open_run"]


@dataclass(frozen=True)
class StoredRun:
    """A finished run on disk; predictions are read on request and not kept."""

    folder: Path
    record: Record
    sha256: str
    """SHA-256 of the record's file."""

    @property
    def result(self) -> Result:
        """Result block of the record."""
        return self.record.result

    @property
    def has_predictions(self) -> bool:
        """Whether a predictions file exists beside the record; its content is not checked."""
        return (self.folder / self.result.predictions.file).is_file()

    def predictions(self) -> StoredPredictions:
        """Read the predictions, checked against the record's hash.

        Raises:
            BadRecord: The file does not exist, cannot be read, or is not the one that the record
                names.
        """
        return read_predictions(self.folder, self.result)

    def problems(self, predictions_needed: bool = True) -> Iterator[str]:
        """Yield each contradiction within the record, and between it and its predictions.

        Args:
            predictions_needed: Whether missing predictions are a problem; without them, only
                contradictions within the record can be found.
        """
        file = self.folder / RECORD
        yield from repeated_keys(file.read_bytes()) if file.is_file() else ()
        impossible = list(impossible_numbers(self.record))
        yield from impossible
        if impossible:
            return  # with impossible numbers nothing else can be computed
        yield from own_problems(self.record)
        yield from self._series_problems()
        if not (predictions_needed or self.has_predictions):
            return
        try:
            yield from prediction_problems(self.result, self.predictions())
        except BadRecord as error:
            yield f"{self.result.predictions.file}: {error.found}"

    def check(self) -> None:
        """Refuse a record whose numbers contradict each other or its predictions.

        Raises:
            BadRecord: The message states the first contradiction.
        """
        problem = next(iter(self.problems(predictions_needed=False)), None)
        if problem is not None:
            raise BadRecord(
                expected=f"a record whose numbers agree with each other at {self.folder}",
                found=problem,
                fix=f"Restore the files; `clgym verify {self.folder}` lists all problems",
            )

    def _series_problems(self) -> Iterator[str]:
        """Yield a problem if ``series.csv`` exists but does not agree with the record's summary."""
        file = self.folder / SERIES
        if not file.is_file():
            return
        try:
            found = Series.from_csv(file.read_bytes()).summary()
        except (OSError, ValueError) as error:
            yield f"{SERIES}: {str(error).splitlines()[0]}"
            return
        if found != self.record.logged:
            yield f"logged is not the summary of {SERIES}"


def open_run(path: Path) -> StoredRun:
    """Open a finished run.

    Args:
        path: Output folder of the run, or its ``record.json``.

    Raises:
        BadRecord: There is no record, or it does not validate.
    """
    file = path / RECORD if path.is_dir() else path
    try:
        data = file.read_bytes()
        return StoredRun(file.parent, Record.model_validate_json(data), sha256(data))
    except OSError as error:
        reason = str(error.strerror)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        reason = f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}"
    raise BadRecord(
        expected=f"a record at {file}", found=reason, fix="Give the output folder of a finished run"
    )
