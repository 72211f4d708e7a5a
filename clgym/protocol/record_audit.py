"""What in a record does not follow from its predictions, its matrix, its seeds or its plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from clgym.data.sources import CARDS
from clgym.errors import Tampered
from clgym.files import canonical_json, sha256
from clgym.gym.folder import without_paths
from clgym.protocol.plan import StudyPlan, code_of
from clgym.protocol.verify_adaptation import adaptation_problems
from clgym.results.metrics import average_incremental_accuracy, backward_transfer, forgetting
from clgym.results.record import Record, Result, read_record
from clgym.scenario import class_permutation

__all__ = [
    "POOLED",
    "ExpectedRecord",
    "against_plan",
    "differences",
    "hidden_experiences",
    "parsed",
    "prediction_problems",
    "record_problems",
]

POOLED = ("class-incremental", "learn-then-shift")
"""Settings whose accuracy is over all test images at once; in others it is a mean of means."""


def parsed(model: Any, data: bytes) -> Any:
    """Validate strictly: a file that only means the same is not the same."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top"
        raise Tampered(
            expected="a file that validates", found=f"{first['msg']} at {place}", fix="Restore it"
        ) from None


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Places where two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{place}[{i}]")
    elif canonical_json(one) != canonical_json(other):
        yield place or "the whole"


def record_problems(folder: Path) -> Iterator[str]:
    """What in a record, of whatever schema, does not follow from its predictions and seeds."""
    record = read_record(folder)
    result = record.result
    after = result.accuracy_after
    derived = {
        "last_accuracy": after[-1],
        "average_incremental_accuracy": average_incremental_accuracy(after),
        "forgetting": forgetting(result.accuracy_matrix),
        "backward_transfer": backward_transfer(result.accuracy_matrix),
    }
    for name, value in derived.items():
        if getattr(result, name) != value:
            yield f"result.{name} does not follow from the matrix"
    if record.conduct is not None and result.stored_samples > record.conduct.memory_capacity:
        yield "result.stored_samples is above conduct.memory_capacity"
    yield from hidden_experiences(result)
    yield from prediction_problems(folder, result)
    yield from _order_problems(record)


def hidden_experiences(result: Result) -> Iterator[str]:
    """Experiences whose accuracy is left out though they were seen and had test images."""
    for i, row in enumerate(result.accuracy_matrix):
        for j in range(i + 1):
            if row[j] is None and result.test_counts[j]:
                yield f"result.accuracy_matrix[{i}][{j}] is missing, though it had test images"


def prediction_problems(folder: Path, result: Result) -> Iterator[str]:
    """What in a result does not follow from the predictions beside its record."""
    path = folder / result.predictions.file
    data = path.read_bytes() if path.is_file() else b""
    if sha256(data) != result.predictions.sha256:
        yield f"{path.name} does not hash to result.predictions.sha256"
        return
    try:
        answers = load(data)
        if result.scenario.setting != "adaptation":
            yield from _matrix_problems(result, answers)
        if result.adaptation is not None:
            yield from adaptation_problems(result, answers)
    except (LookupError, ValueError, TypeError, MemoryError, SafetensorError) as error:
        yield f"{path.name} cannot be read ({type(error).__name__})"


def _matrix_problems(result: Result, answers: dict[str, np.ndarray]) -> Iterator[str]:
    for i, row in enumerate(result.accuracy_matrix):
        step, hits = (
            answers[f"{i}/experience"],
            answers[f"{i}/predicted"] == answers[f"{i}/label"],
        )
        again = [
            float(hits[step == j].mean()) if (step == j).any() else None for j in range(len(row))
        ]
        if again != row:
            yield f"result.accuracy_matrix[{i}] does not follow from the predictions"
        if len(np.unique(np.stack([step, answers[f"{i}/row"]]), axis=1).T) != len(step):
            yield f"result.predictions hold a test row twice after experience {i + 1}"
        seen = float(hits[step <= i].mean())
        if result.scenario.setting in POOLED and result.accuracy_after[i] != seen:
            yield f"result.accuracy_after[{i}] does not follow from the predictions"
        counts = [int((step == j).sum()) for j in range(i + 1)]
        if any(n and n != result.test_counts[j] for j, n in enumerate(counts)):
            yield f"result.test_counts does not fit the predictions after experience {i + 1}"


def _order_problems(record: Record) -> Iterator[str]:
    """The class order is computed again where the class names of the source are known."""
    result = record.result
    config, seed = result.scenario.config, result.order_seed
    card = CARDS.get(result.sources[0].name)
    if result.scenario.setting != "class-incremental" or card is None or not card.classes:
        return
    if not {"classes", "order_seed", "increments", "first"} <= config.keys():
        return
    chosen = sorted(set(config["classes"] or range(len(card.classes))))
    seed = config["order_seed"] if seed is None else seed
    listed = config.get("class_order") if seed is None else None
    order = listed or [chosen[i] for i in class_permutation(len(chosen), seed)]
    names = [card.classes[c] for c in order]
    start = stop = None
    if result.part is not None:
        sizes = [config["first"] or config["increments"][0]]
        while sum(sizes) < len(names):
            steps = config["increments"]
            sizes.append(steps[min(len(sizes) - 1, len(steps) - 1)])
        start, stop = (sum(sizes[:end]) for end in result.part)
    if result.class_order != names[start:stop]:
        yield "result.class_order is not the order of its seed, or of its list"


@dataclass(frozen=True)
class ExpectedRecord:
    """What a plan says of one run: its options, seed and experiences."""

    strategy: dict[str, Any]
    scenario: dict[str, Any]
    seed: int
    part: tuple[int, int] | None


def against_plan(
    record: Record, plan: StudyPlan, wanted: ExpectedRecord, evaluating: bool
) -> Iterator[str]:
    """A record against what the plan says its run must have been."""
    result, where = record.result, record.environment
    side = plan.evaluation if evaluating or plan.tunes_on_evaluation else plan.tuning
    facts = {
        "result.seed": (result.seed, wanted.seed),
        "result.order_seed": (result.order_seed, wanted.seed),
        "result.part": (result.part, wanted.part),
        "result.strategy.name": (result.strategy.name, plan.strategy),
        "result.scenario.name": (result.scenario.name, plan.pair.scenario),
        "result.sources": (
            [(source.name, source.fingerprint) for source in result.sources],
            [(side.name, side.fingerprint)],
        ),
        "result.scored_on": (result.scored_on, "test" if evaluating else plan.score_on),
        "environment.threads": (where.threads, plan.threads),
        "environment.device": (where.device.partition(":")[0], plan.device),
    }
    if plan.fixes_method:
        facts["result.strategy.source_hash"] = (result.strategy.source_hash, plan.method_hash)
    if plan.known_failures is not None:
        stated = result.strategy.known_failures
        facts["result.strategy.known_failures"] = (stated, plan.known_failures)
    if not evaluating:  # a later evaluation may run on other code: it is flagged
        facts["environment"] = (code_of(where), code_of(plan.code, tuple(where.packages)))
    for name, digest in (plan.helpers or {}).items():
        facts[f"environment.read_files[{name}]"] = (where.read_files.get(name), digest)
    for name, (found, planned) in facts.items():
        if found != planned:
            yield f"{name} is not the plan's"
    for kind, found, options in (
        ("strategy", result.strategy.config, without_paths(wanted.strategy)),
        ("scenario", result.scenario.config, without_paths(wanted.scenario)),
    ):
        for name, value in options.items():
            if name not in found or not _same(found[name], value):
                yield f"result.{kind}.config.{name} is not the plan's"


def _same(found: Any, wanted: Any) -> bool:
    """Equal values; a list may have become a tuple, a whole number a float."""
    return bool(np.array_equal(np.asarray(found, dtype=object), np.asarray(wanted, dtype=object)))
