"""Measures of a table: names, titles, and the value in a result."""

from collections.abc import Callable
from dataclasses import dataclass

from clgym.errors import UnknownName, near
from clgym.results.record import Result

__all__ = ["MEASURES", "TableMeasure", "measure_of"]


@dataclass(frozen=True)
class TableMeasure:
    """A number of a result."""

    name: str
    title: str
    """Title with the unit."""
    value: Callable[[Result], float | None]
    """Function that returns the value as a fraction; None where the result has none."""
    larger_is_better: bool = True

    @property
    def sign(self) -> int:
        """Factor that makes larger values better."""
        return 1 if self.larger_is_better else -1


def _learned(value: Callable[[Result], float | None]) -> Callable[[Result], float | None]:
    """Restrict a measure to learning streams; adaptation streams are measured by their error."""
    return lambda result: None if result.kind == "adaptation" else value(result)


def _area(result: Result) -> float | None:
    return None if result.anytime is None else result.anytime.area


def _error(result: Result) -> float | None:
    return None if result.adaptation is None else result.adaptation.mean_error


def _pooled(result: Result) -> float | None:
    return None if result.adaptation is None else result.adaptation.pooled_error


_ALL = (
    TableMeasure("last", "Last accuracy, %", _learned(lambda r: r.last_accuracy)),
    TableMeasure(
        "average", "Average incremental, %", _learned(lambda r: r.average_incremental_accuracy)
    ),
    TableMeasure("forgetting", "Forgetting, points", lambda r: r.forgetting, False),
    TableMeasure("backward", "Backward transfer, points", lambda r: r.backward_transfer),
    TableMeasure("forward", "Forward transfer, points", lambda r: r.forward_transfer),
    TableMeasure("anytime", "Accuracy at any time, %", _area),
    TableMeasure("error", "Mean error, %", _error, False),
    TableMeasure("pooled", "Pooled error, %", _pooled, False),
)
MEASURES = {measure.name: measure for measure in _ALL}
"""Measures by name; values are fractions and are printed as percent or points."""


def measure_of(name: str) -> TableMeasure:
    """Return a measure by its name.

    Raises:
        UnknownName: No measure has this name.
    """
    if name not in MEASURES:
        raise UnknownName(
            expected=f"a measure ({', '.join(MEASURES)})",
            found=repr(name),
            fix=f"{near(name, MEASURES)}`clgym table --help` describes them",
        )
    return MEASURES[name]
