"""The audit of a run: contradictions within its record, and with its predictions.

No number of a record is taken for granted: each is computed again where that is possible, and a
value that no run can have is a problem, too.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from clgym.results.forgetting import measures_of
from clgym.results.metrics import accuracy_by_group, area_under_curve, matrix_summary
from clgym.results.online_errors import scores
from clgym.results.predictions import PredictedRows, StoredPredictions
from clgym.results.record import (
    AdaptationFacts,
    AdaptationResult,
    DeletionResult,
    LearningResult,
    PretrainingResult,
    Record,
    Result,
    TwoPhaseResult,
)

__all__ = ["TOLERANCE", "impossible_numbers", "own_problems", "prediction_problems"]

TOLERANCE = 1e-9
"""Largest difference allowed between a stored number and the recomputed one.

The same mean differs in its last bits (about 1e-16) between versions of NumPy and between
processors; one image among a hundred million changes an accuracy by 1e-8.
"""
_POOLED = ("class-incremental", "learn-then-shift", "deletion", "pretraining")
"""Scenario types whose accuracy is pooled over all test images; in others it is a mean of means."""
_KINDS = {
    "adaptation": "adaptation",
    "learn-then-shift": "two-phases",
    "deletion": "deletion",
    "pretraining": "pretraining",
}
"""Kind of result by scenario type; all other types have the result of a learning stream."""
_MatrixResult = LearningResult | TwoPhaseResult | DeletionResult | PretrainingResult
"""Results that contain an accuracy matrix."""
_LONGEST = 10 * 365 * 86_400
"""Maximum plausible duration of a run, in seconds."""


def alike(stored: Any, again: Any) -> bool:
    """Whether two values are equal, with numbers equal within `TOLERANCE`; NaN equals nothing."""
    if isinstance(stored, Mapping) and isinstance(again, Mapping):
        one, other = cast(Mapping[str, Any], stored), cast(Mapping[str, Any], again)
        return one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    if isinstance(stored, list) and isinstance(again, list):
        items, others = cast(list[Any], stored), cast(list[Any], again)
        return len(items) == len(others) and all(map(alike, items, others))
    if isinstance(stored, float | int) and isinstance(again, float | int):
        return abs(stored - again) <= TOLERANCE
    return bool(stored == again)


# --- the record alone ----------------------------------------------------------------------------


def own_problems(record: Record) -> Iterator[str]:
    """Yield contradictions within a record."""
    result = record.result
    if record.conduct is not None and result.stored_samples > record.conduct.memory_capacity:
        yield "result.stored_samples is above conduct.memory_capacity"
    if record.holdings is not None and record.holdings.total != result.parameters:
        yield "result.parameters is not holdings.total"
    kind = _KINDS.get(result.scenario.setting, "learning")
    if result.kind != kind:
        yield f"result.kind is {result.kind}, though its setting is {result.scenario.setting}"
    partly = result.numerics is not None and result.numerics.evaluate_every is not None
    if partly and (result.kind != "learning" or result.anytime is not None):
        # `clgym.gym.numerics.check_tests` refuses such runs.
        yield "result.numerics leaves out tests, though this stream needs all of them"
    if not isinstance(result, AdaptationResult):
        yield from _matrix_problems(result)
        yield from _storage_problems(record, result.stored_after)
    if result.adaptation is not None:
        yield from _segment_problems(result.adaptation)


def _storage_problems(record: Record, stored: Sequence[int] | None) -> Iterator[str]:
    """Compare the numbers of stored samples with the last one and with the capacity."""
    if stored is None:
        return
    if stored[-1] != record.result.stored_samples and record.result.kind == "learning":
        yield "result.stored_samples is not the last of result.stored_after"
    if record.conduct is not None and max(stored) > record.conduct.memory_capacity:
        yield "result.stored_after is above conduct.memory_capacity"


def impossible_numbers(record: Record) -> Iterator[str]:
    """Yield the values of a record that no run can have."""
    # Not by way of JSON, which cannot represent NaN and infinity: pydantic would write null.
    for place, value in _numbers(record.model_dump(exclude={"schema_version"})):
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
        "cpu_seconds": cost.cpu_seconds or 0,
        "idle_memory_bytes": cost.idle_memory_bytes or 0,
        "train_flops": min((flops or 0 for flops in cost.train_flops), default=0),
        "predict_flops_per_image": cost.predict_flops_per_image or 0,
        "gpu_utilisation": cost.gpu_utilisation or 0,
        "energy_joules": min(cost.energy_joules.values(), default=0),
    }
    yield from (f"{name} is negative" for name, value in amounts.items() if value < 0)
    if (cost.gpu_utilisation or 0) > 1:
        yield "gpu_utilisation is above 1"
    if cost.wall_seconds > _LONGEST:
        yield "wall_seconds is more than ten years"
    if not result.accuracy_matrix or not sum(result.test_counts):
        yield "nothing was measured"
    if len(set(result.class_order)) != len(result.class_order):
        yield "class_order names a class twice"
    if result.adaptation and not all(0 <= v <= 1 for v in _errors(result.adaptation)):
        yield "an error lies outside 0 to 1"


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield all floats of nested values, each with its place."""
    if isinstance(value, dict):
        for key, inner in cast(dict[str, object], value).items():
            yield from _numbers(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for inner in cast(Sequence[object], value):
            yield from _numbers(inner, place)
    elif isinstance(value, float):
        yield place, value


def _errors(adaptation: AdaptationFacts) -> list[float]:
    per_class = [value for value in adaptation.per_class.values() if value is not None]
    segments = [segment.error for segment in adaptation.segments]
    whole = [adaptation.mean_error, adaptation.pooled_error]
    return [*whole, *segments, *adaptation.domains.values(), *per_class]


def _matrix_problems(result: _MatrixResult) -> Iterator[str]:
    """Compare accuracies and test counts with the accuracy matrix."""
    matrix, counts = result.accuracy_matrix, result.test_counts
    again = matrix_summary(matrix, result.accuracy_after, result.chance)
    for name, value in again.items():
        if not alike(getattr(result, name), value):
            yield f"result.{name} does not follow from the matrix"
    curve = result.anytime
    if curve and not alike(curve.area, area_under_curve(curve.images, curve.accuracy)):
        yield "result.anytime.area does not follow from its measurements"
    for i, row in enumerate(matrix):
        if result.accuracy_after[i] is None:
            continue  # not tested
        for j in range(i + 1):
            if row[j] is None and counts[j]:
                yield f"result.accuracy_matrix[{i}][{j}] is missing, though it had test images"
        seen = [(v, n) for v, n in zip(row[: i + 1], counts, strict=False) if v is not None]
        if seen and not alike(result.accuracy_after[i], _accuracy_over(seen, result)):
            yield f"result.accuracy_after[{i}] does not follow from the matrix"
        # An accuracy over n images is a multiple of 1 / n: most edited values are not.
        for j, (value, n) in enumerate(zip(row, counts, strict=True)):
            if value is not None and not (n and alike(value, round(value * n) / n)):
                yield f"result.accuracy_matrix[{i}][{j}] is no share of {n} test images"


def _accuracy_over(seen: Sequence[tuple[float, int]], result: Result) -> float:
    """Return the accuracy over experiences: pooled over images if all classes compete, else a mean.

    Args:
        seen: Accuracy and number of test images of each experience.
        result: Result whose scenario type decides.
    """
    images = sum(count for _, count in seen)
    if result.scenario.setting in _POOLED and images:
        return sum(value * count for value, count in seen) / images
    return sum(value for value, _ in seen) / len(seen)


def _segment_problems(adaptation: AdaptationFacts) -> Iterator[str]:
    """Compare mean and pooled error with those of the segments."""
    errors = [segment.error for segment in adaptation.segments]
    counts = [segment.images for segment in adaptation.segments]
    if not errors or min(counts) < 1:
        yield "result.adaptation.segments has no images, or a segment without"
        return
    mean = np.mean(list(adaptation.domains.values()) if len(errors) == 1 else errors)
    if not alike(adaptation.mean_error, float(mean)):
        yield "result.adaptation.mean_error does not follow from the segments"
    if not alike(adaptation.pooled_error, float(np.average(errors, weights=counts))):
        yield "result.adaptation.pooled_error does not follow from the segments"


# --- the record against its predictions ----------------------------------------------------------


def prediction_problems(result: Result, predictions: StoredPredictions) -> Iterator[str]:
    """Yield contradictions between a result and its predictions.

    Raises:
        BadRecord: Arrays are missing, or do not fit the record.
    """
    if not isinstance(result, AdaptationResult):
        for experience, accuracy in enumerate(result.accuracy_after):
            if accuracy is None:  # not tested
                if predictions.has_after(experience):
                    yield f"predictions after experience {experience + 1}, which was not tested"
                continue
            rows = predictions.after(experience)
            yield from _evaluation_problems(result, experience, rows)
            by_head = predictions.by_head(experience)
            yield from _head_problems(result, experience, rows, by_head)
        if result.anytime is not None:
            images, accuracy = predictions.anytime()
            if images != result.anytime.images:
                yield "result.anytime.images does not follow from the predictions"
            if not alike(result.anytime.accuracy, accuracy):
                yield "result.anytime.accuracy does not follow from the predictions"
    if isinstance(result, PretrainingResult):
        yield from _probe_problems(result, predictions)
    if isinstance(result, DeletionResult):
        yield from _deletion_problems(result, predictions)
    if result.adaptation is not None:
        segments = predictions.segments()
        yield from _adaptation_problems(result.adaptation, segments, result.class_order)


def _evaluation_problems(result: Result, i: int, rows: PredictedRows) -> Iterator[str]:
    """Compute the accuracies after experience ``i`` again."""
    hits, step = rows.hits, rows.group
    again = accuracy_by_group(hits, step, len(result.accuracy_matrix))
    if not alike(result.accuracy_matrix[i], again):
        yield f"result.accuracy_matrix[{i}] does not follow from the predictions"
    if len(set(zip(step.tolist(), rows.row.tolist(), strict=True))) != len(step):
        yield f"result.predictions hold a test row twice after experience {i + 1}"
    seen = step <= i
    pooled = float(hits[seen].mean()) if seen.any() else None
    if result.scenario.setting in _POOLED and not alike(result.accuracy_after[i], pooled):
        yield f"result.accuracy_after[{i}] does not follow from the predictions"
    counts = np.bincount(step[seen], minlength=i + 1)
    if any(n and n != result.test_counts[j] for j, n in enumerate(counts)):
        yield f"result.test_counts does not fit the predictions after experience {i + 1}"


def _head_problems(
    result: _MatrixResult,
    i: int,
    rows: PredictedRows,
    by_head: Mapping[str, np.ndarray],
) -> Iterator[str]:
    """Compute the accuracy of each head after experience ``i`` again."""
    for name, after in (result.heads or {}).items():
        if name not in by_head:
            yield f"result.heads.{name} has no predictions after experience {i + 1}"
            continue
        hits = by_head[name] == rows.label
        shares = [hits[rows.group == j] for j in range(i + 1)]
        seen = [(float(share.mean()), len(share)) for share in shares if len(share)]
        if not alike(after[i], _accuracy_over(seen, result)):
            yield f"result.heads.{name}[{i}] does not follow from the predictions"


def _probe_problems(result: PretrainingResult, predictions: StoredPredictions) -> Iterator[str]:
    """Compute the nearest neighbours' matrix again, and count the training rows of the probes."""
    size = len(result.accuracy_matrix)
    for i, stored in enumerate(result.probe.knn_matrix):
        rows, by_head = predictions.after(i), predictions.by_head(i)
        if "knn" not in by_head:
            yield f"result.heads.knn has no predictions after experience {i + 1}"
            continue
        again = accuracy_by_group(by_head["knn"] == rows.label, rows.group, size)
        if not alike(stored, again):
            yield f"result.probe.knn_matrix[{i}] does not follow from the predictions"
    experience = predictions.probed()
    again = [int((experience <= i).sum()) for i in range(size)]
    if result.probe.rows != again:
        yield "result.probe.rows does not follow from the predictions"


def _deletion_problems(result: DeletionResult, predictions: StoredPredictions) -> Iterator[str]:
    """Compute the measures of every request again, except distances, which need the reference."""
    stored = [request.model_dump() for request in result.deletion.requests]
    rows, audits = predictions.audits(len(stored) + 1)
    again = measures_of(rows, [request["classes"] for request in stored], audits)
    for number, (request, measures) in enumerate(zip(stored, again, strict=True)):
        for name in ("rows", "before", "after"):
            if not alike(request[name], measures[name]):
                place = f"result.deletion.requests[{number}].{name}"
                yield f"{place} does not follow from the predictions"


def _adaptation_problems(
    adaptation: AdaptationFacts, segments: Sequence[PredictedRows], class_names: Sequence[str]
) -> Iterator[str]:
    """Compute every online error again."""
    if not segments:
        return  # `own_problems` says so
    numbers = np.unique(np.concatenate([rows.group for rows in segments])).tolist()
    if len(numbers) != len(adaptation.domains):
        yield "result.adaptation.domains does not follow from the predictions"
        return
    again = scores(
        [segment.name for segment in adaptation.segments],
        [rows.group for rows in segments],
        # A record names the domains that occurred, in the order of their numbers.
        dict(zip(numbers, adaptation.domains, strict=True)),
        [rows.label for rows in segments],
        [rows.predicted for rows in segments],
        [rows.confidence for rows in segments if rows.confidence is not None],
        class_names,
    )
    stored = adaptation.model_dump()
    for name, value in again.items():
        if not alike(stored[name], value):
            yield f"result.adaptation.{name} does not follow from the predictions"
