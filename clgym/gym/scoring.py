"""Logits to scores, on the gym's side: it alone holds the labels. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clgym.data.sources import Source
from clgym.results import metrics
from clgym.scenario import Stream

__all__ = ["Pool", "Scores", "chance_levels", "pool_after", "score"]


@dataclass(frozen=True, eq=False)
class Pool:
    """The test rows measured at one moment, ordered by experience, then row; with their labels."""

    step: np.ndarray
    """int64 [n], the experience that each row measures."""
    row: np.ndarray
    """int64 [n], row of the step's source, of the split that measures it."""
    label: np.ndarray
    """int64 [n], columns."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one evaluation gives."""

    row: list[float | None]
    """Accuracy on each experience; None where not measured."""
    accuracy: float
    task_aware: float
    predicted: np.ndarray
    """int64 [n], in the pool's order: best column of those the setting lets compete."""


def pool_after(stream: Stream, sources: Sequence[Source], index: int) -> Pool:
    """All rows to be scored after experience ``index``."""
    measured = stream.measured_after(index)
    columns = [np.array(c) for c in stream.columns]
    steps = [stream.steps[j] for j in measured]
    labels = [
        columns[s.source][getattr(sources[s.source], s.measured_on).labels[s.test]] for s in steps
    ]
    empty = np.zeros(0, dtype=np.int64)
    return Pool(
        np.concatenate(
            [empty, *(np.full(len(s.test), j) for j, s in zip(measured, steps, strict=True))]
        ),
        np.concatenate([empty, *(s.test for s in steps)]),
        np.concatenate([empty, *labels]),
    )


def score(stream: Stream, index: int, pool: Pool, logits: np.ndarray) -> Scores:
    """Score one evaluation.

    Args:
        stream: The plan.
        index: The experience just learned.
        pool: The rows, n of them.
        logits: float [n, columns], in the pool's order.
    """
    pooled = logits.argmax(1)
    own = np.empty_like(pooled)
    for j in np.unique(pool.step):
        here = pool.step == j
        columns = own_columns(stream, int(j))
        columns = columns[columns < logits.shape[1]]
        own[here] = columns[logits[np.ix_(here, columns)].argmax(1)]
    predicted = own if stream.gives_task_ids and stream.compete == "own" else pooled
    hits, own_hits = predicted == pool.label, own == pool.label
    row = [_share(hits[pool.step == j]) for j in range(len(stream))]
    seen = pool.step <= index
    if stream.setting == "class-incremental":
        accuracy = float(hits[seen].mean())
    else:
        accuracy = float(np.mean([v for v in row[: index + 1] if v is not None]))
    per_task = [_share(own_hits[pool.step == j]) for j in range(index + 1)]
    return Scores(row, accuracy, float(np.mean([v for v in per_task if v is not None])), predicted)


def own_columns(stream: Stream, j: int) -> np.ndarray:
    """Columns that experience j's test rows are scored on when the task is known."""
    step = stream.steps[j]
    if stream.setting == "domain-incremental":
        return np.arange(stream.columns_after(len(stream) - 1))
    return np.array(step.classes)


def chance_levels(stream: Stream) -> list[float]:
    """The accuracy of guessing on each experience, among the columns it is scored on at its end."""
    counts = [
        stream.columns_after(j)
        if stream.setting == "class-incremental" or stream.compete == "seen"
        else len(own_columns(stream, j))
        for j in range(len(stream))
    ]
    return [1.0 / n for n in counts]


def _share(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None


def summary(matrix: list[list[float | None]], after: list[float], chance: list[float]) -> dict:
    """The record's numbers that follow from the matrix."""
    return {
        "last_accuracy": after[-1],
        "average_incremental_accuracy": metrics.average_incremental_accuracy(after),
        "forgetting": metrics.forgetting(matrix),
        "backward_transfer": metrics.backward_transfer(matrix),
        "forward_transfer": metrics.forward_transfer(matrix, chance),
    }
