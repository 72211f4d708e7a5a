"""Measures of claims: numbers of a record, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from clgym.results.record import DeletionResult, Record

__all__ = ["MEASURES", "Measure", "growth"]


@dataclass(frozen=True)
class Measure:
    """A number of a record."""

    of: Callable[[Record], float | None]
    """Function from a record to the value, in percent or its own unit; None if not measured."""
    higher_is_better: bool = True
    unit: str = "%"


def _percent(name: str) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        value = getattr(record.result, name)
        return None if value is None else 100 * value

    return of


def _adapted(name: str) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        facts = record.result.adaptation
        return None if facts is None else 100 * getattr(facts, name)

    return of


def _after_requests(name: str) -> Callable[[Record], float | None]:
    """Return a measure after the last request of a deletion stream."""

    def of(record: Record) -> float | None:
        if not isinstance(record.result, DeletionResult):
            return None
        value = getattr(record.result.deletion.requests[-1].after, name)
        return None if value is None else 100 * value

    return of


def _neighbours(record: Record) -> float | None:
    """Last accuracy of the nearest-neighbour probe of a pretraining stream, in percent."""
    after = (record.result.heads or {}).get("knn", [None])[-1]
    return 100 * after if after is not None and record.result.kind == "pretraining" else None


def _task_aware(record: Record) -> float | None:
    last = record.result.task_aware_accuracy_after[-1]
    return None if last is None else 100 * last


def growth(record: Record) -> float | None:
    """Parameters that a task adds, in percent of the network, as measured by the strategy."""
    return record.cost.own.get("growth_percent")


MEASURES: dict[str, Measure] = {
    "last_accuracy": Measure(_percent("last_accuracy")),
    "average_incremental_accuracy": Measure(_percent("average_incremental_accuracy")),
    "task_aware_accuracy": Measure(_task_aware),
    "forgetting": Measure(_percent("forgetting"), higher_is_better=False),
    "mean_error": Measure(_adapted("mean_error"), higher_is_better=False),
    "pooled_error": Measure(_adapted("pooled_error"), higher_is_better=False),
    "forgotten_accuracy": Measure(_after_requests("forgotten_accuracy"), higher_is_better=False),
    "retained_accuracy": Measure(_after_requests("retained_accuracy")),
    "knn_accuracy": Measure(_neighbours),
    "growth_percent": Measure(growth, higher_is_better=False),
    "rank_correlation": Measure(lambda record: None, unit=""),
}
"""Measures by name; `rank_correlation` is a measure of several studies: Spearman's correlation
between tuning score and evaluation."""
