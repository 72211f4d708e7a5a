"""Scoring on the gym's side, the only one with the labels. NumPy only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clgym.data.sources import Source
from clgym.results.metrics import accuracy_by_group
from clgym.scenario import Stream

__all__ = [
    "Predictions",
    "Scores",
    "TestPool",
    "POOLED",
    "chance_levels",
    "pool_after",
    "predictions_of",
    "score",
]

POOLED = ("class-incremental", "pretraining")
"""Scenario types whose accuracy is pooled over all test rows of all classes seen."""


@dataclass(frozen=True, eq=False)
class TestPool:
    """Test rows scored at one time, ordered by experience and row, with their labels."""

    __test__ = False  # pytest would collect a class of this name as a test

    step: np.ndarray
    """int64 [n], experience that each row measures."""
    row: np.ndarray
    """int64 [n], row number in the source and split that measure the experience."""
    label: np.ndarray
    """int64 [n], class index of each row."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for a pool, in the pool's order."""

    predicted: np.ndarray
    """int64 [n], predicted class index among the classes that compete."""
    task_aware: np.ndarray
    """int64 [n], predicted class index among the classes of the row's own experience."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one evaluation."""

    row: list[float | None]
    """Accuracy on each experience; None where not measured."""
    accuracy: float | None
    """None if no test was due, like all other scores."""
    task_aware: float | None


def pool_after(stream: Stream, sources: Sequence[Source], index: int) -> TestPool:
    """All rows that are scored after experience ``index``."""
    measured = stream.measured_after(index)
    columns = [np.array(c) for c in stream.columns]
    steps = [stream.steps[j] for j in measured]
    labels = [
        columns[s.source][getattr(sources[s.source], s.measured_on).labels[s.test]] for s in steps
    ]
    empty = np.zeros(0, dtype=np.int64)
    return TestPool(
        np.concatenate(
            [empty, *(np.full(len(s.test), j) for j, s in zip(measured, steps, strict=True))]
        ),
        np.concatenate([empty, *(s.test for s in steps)]),
        np.concatenate([empty, *labels]),
    )


def predictions_of(stream: Stream, pool: TestPool, logits: np.ndarray) -> Predictions:
    """Predicted classes from logits; labels are not used.

    Args:
        stream: The plan.
        pool: The rows, n of them.
        logits: float [n, classes], in the pool's order.
    """
    pooled = logits.argmax(1)
    own = np.empty_like(pooled)
    for j, here in _by_experience(pool):
        columns = own_columns(stream, j)
        columns = columns[columns < logits.shape[1]]
        own[here] = columns[logits[np.ix_(here, columns)].argmax(1)]
    return Predictions(own if stream.gives_task_ids and stream.compete == "own" else pooled, own)


def _by_experience(pool: TestPool) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each experience in the pool, with the places of its rows, int64, ascending."""
    order = np.argsort(pool.step, kind="stable")
    present, first = np.unique(pool.step[order], return_index=True)
    groups = np.split(order, first[1:]) if len(order) else []
    yield from zip(map(int, present), groups, strict=True)


def score(stream: Stream, index: int, pool: TestPool, answers: Predictions) -> Scores:
    """Compare the predictions of an evaluation with the labels.

    Args:
        stream: The plan.
        index: The experience just learned.
        pool: The rows, n of them.
        answers: Predictions in the pool's order.
    """
    hits, own_hits = answers.predicted == pool.label, answers.task_aware == pool.label
    row = accuracy_by_group(hits, pool.step, len(stream))
    seen = pool.step <= index
    if stream.setting in POOLED:
        accuracy = float(hits[seen].mean())
    else:
        accuracy = float(np.mean([v for v in row[: index + 1] if v is not None]))
    per_task = accuracy_by_group(own_hits, pool.step, len(stream))[: index + 1]
    return Scores(row, accuracy, float(np.mean([v for v in per_task if v is not None])))


def own_columns(stream: Stream, j: int) -> np.ndarray:
    """Class indices that compete for experience j's test rows if the task is known."""
    step = stream.steps[j]
    if stream.setting == "domain-incremental":
        return np.arange(stream.columns_after(len(stream) - 1))
    return np.array(step.classes if step.home is None else step.home)


def chance_levels(stream: Stream) -> list[float]:
    """Accuracy of guessing on each experience, among the classes that compete at its end."""
    counts = [
        stream.columns_after(j)
        if stream.setting in POOLED or stream.compete == "seen"
        else len(own_columns(stream, j))
        for j in range(len(stream))
    ]
    return [1.0 / n for n in counts]
