"""Check a record against itself: its matrix, and the predictions beside it.

Nothing on the board is copied from a record's summary. A number that does not follow, or that
cannot be, is a problem; a record with one is refused.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clgym.gym.scoring import summary
from clgym.protocol.record_audit import POOLED, hidden_experiences, prediction_problems
from clgym.results.record import Record, Result

__all__ = ["Recomputed", "recompute"]

_CLOSE = 1e-9
"""Tolerance for the same mean computed by two versions of NumPy."""
_LONGEST = 10 * 365 * 86_400
"""Maximum plausible duration of a run, in seconds."""


@dataclass(frozen=True)
class Recomputed:
    """Outcome of recomputing one record."""

    problems: tuple[str, ...]
    verified: bool
    """Whether the predictions exist and all numbers agree with them."""


def recompute(folder: Path, record: Record) -> Recomputed:
    """Recompute a record's numbers.

    Args:
        folder: Where it lies, its predictions beside it, or not.
        record: As it was read.
    """
    problems = [*_impossible(record)]
    if not problems:
        result = record.result
        problems += [*hidden_experiences(result), *_matrix_problems(result)]
        alone = result.scenario.setting == "adaptation"
        problems += _segment_problems(result) if alone else _count_problems(result)
    path = folder / record.result.predictions.file
    if problems or not path.is_file():
        return Recomputed(tuple(problems), verified=False)
    problems += prediction_problems(folder, record.result)
    return Recomputed(tuple(problems), verified=not problems)


def _impossible(record: Record) -> Iterator[str]:
    """Numbers that no run can have."""
    for place, value in _numbers(record.model_dump(mode="json", exclude={"schema_version"})):
        if not math.isfinite(value):
            yield f"{place} is not a finite number"
    result, cost = record.result, record.cost
    amounts = {
        "parameters": result.parameters,
        "stored_samples": result.stored_samples,
        "test_counts": min(result.test_counts, default=0),
        "wall_seconds": cost.wall_seconds,
        "train_seconds": min(cost.train_seconds, default=0),
        "predict_seconds": min(cost.predict_seconds, default=0),
        "peak_memory_bytes": cost.peak_memory_bytes,
        "train_images": cost.train_images,
    }
    yield from (f"{name} is negative" for name, value in amounts.items() if value < 0)
    if cost.wall_seconds > _LONGEST:
        yield "wall_seconds is more than ten years"
    if not result.accuracy_matrix or not sum(result.test_counts):
        yield "nothing was measured"
    if len(set(result.class_order)) != len(result.class_order):
        yield "class_order names a class twice"
    if result.adaptation and not all(0 <= v <= 1 for v in _errors(result)):
        yield "an error lies outside 0 to 1"


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a JSON value, with where they stand."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, place)
    elif isinstance(value, float):
        yield place, value


def _errors(result: Result) -> list[float]:
    found = result.adaptation
    assert found is not None
    per_class = [v for v in found.per_class.values() if v is not None]
    segments = [segment.error for segment in found.segments]
    whole = [found.mean_error, found.pooled_error]
    return [*whole, *segments, *found.domains.values(), *per_class]


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _CLOSE


def _matrix_problems(result: Result) -> Iterator[str]:
    """The record's own numbers against its matrix."""
    again = summary(result.accuracy_matrix, result.accuracy_after, result.chance)
    for name, value in again.items():
        if not _same(getattr(result, name), value):
            yield f"{name} does not agree with the accuracy matrix"
    for i, row in enumerate(result.accuracy_matrix):
        pairs = zip(row[: i + 1], result.test_counts, strict=False)
        seen = [(v, n) for v, n in pairs if v is not None]
        if seen and not _same(result.accuracy_after[i], _pooled(seen, result)):
            yield f"accuracy_after[{i}] does not agree with the accuracy matrix"


def _pooled(seen: list[tuple[float, int]], result: Result) -> float:
    """Accuracy over experiences: by images where all classes compete, else their mean."""
    images = sum(count for _, count in seen)
    if result.scenario.setting in POOLED and images:
        return sum(value * count for value, count in seen) / images
    return sum(value for value, _ in seen) / len(seen)


def _count_problems(result: Result) -> Iterator[str]:
    """An accuracy over n images is a whole number of n-ths: most edited values are not."""
    for i, row in enumerate(result.accuracy_matrix):
        for j, (value, n) in enumerate(zip(row, result.test_counts, strict=True)):
            if value is not None and abs(value * n - round(value * n)) > 1e-6:
                yield f"accuracy_matrix[{i}][{j}] is not a fraction of {n} test images"


def _segment_problems(result: Result) -> Iterator[str]:
    found = result.adaptation
    if found is None:
        yield "the adaptation block is missing"
        return
    errors = [segment.error for segment in found.segments]
    counts = [segment.images for segment in found.segments]
    if not errors or sum(counts) != sum(result.test_counts):
        yield "segments do not add up to test_counts"
        return
    mean = np.mean(list(found.domains.values()) if len(errors) == 1 else errors)
    if not _same(found.mean_error, float(mean)):
        yield "mean_error does not agree with the segments"
    if not _same(found.pooled_error, float(np.average(errors, weights=counts))):
        yield "pooled_error does not agree with the segments"
    if not _same(result.last_accuracy, 1 - found.mean_error):
        yield "last_accuracy is not 1 - mean_error"
