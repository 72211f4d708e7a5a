"""Contradictions of a run with its predictions, its seeds or its plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from clgym.data.sources import CARDS
from clgym.errors import Tampered
from clgym.files import canonical_json, repeated_keys
from clgym.gym.folder import without_paths
from clgym.protocol.plan import StudyPlan, code_of
from clgym.results.record import Record, Result
from clgym.results.stored import StoredRun
from clgym.scenario import class_permutation

__all__ = [
    "ExpectedRecord",
    "against_plan",
    "class_order_problems",
    "differences",
    "parsed",
    "record_problems",
]


def parsed(model: Any, data: bytes) -> Any:
    """Validate strictly: a file that is merely equivalent counts as different."""
    if twice := next(repeated_keys(data), None):
        raise Tampered(expected="each key once", found=twice, fix="Restore the file")
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
        fields, others = cast(dict[str, object], one), cast(dict[str, object], other)
        for key in sorted({*fields, *others}):
            here = f"{place}.{key}".lstrip(".")
            yield from differences(fields.get(key), others.get(key), here)
        return
    if isinstance(one, list) and isinstance(other, list):
        items, found = cast(list[Any], one), cast(list[Any], other)
        if len(items) == len(found):
            for i, (a, b) in enumerate(zip(items, found, strict=True)):
                yield from differences(a, b, f"{place}[{i}]")
            return
    if canonical_json(one) != canonical_json(other):
        yield place or "the whole"


def record_problems(run: StoredRun) -> Iterator[str]:
    """Contradictions of a run, with a record of any schema, with its predictions and seeds."""
    yield from run.problems()
    yield from class_order_problems(run.result)


class _ClassIncrementalOptions(BaseModel):
    """The options of a class-incremental scenario that determine the order of the classes."""

    model_config = ConfigDict(strict=True)
    classes: list[int] | None
    class_order: list[int] | None = None
    order_seed: int | None
    first: NonNegativeInt | None
    increments: list[PositiveInt] = Field(min_length=1)

    def sizes(self, classes: int) -> list[int]:
        """Number of classes of each experience; the last may be larger than what is left."""
        sizes = [self.first or self.increments[0]]
        while sum(sizes) < classes:
            sizes.append(self.increments[min(len(sizes), len(self.increments)) - 1])
        return sizes


def class_order_problems(result: Result) -> Iterator[str]:
    """Recompute the class order if the class names of the source are known."""
    config, seed = result.scenario.config, result.order_seed
    card = CARDS.get(result.sources[0].name)
    if result.scenario.setting != "class-incremental" or card is None or not card.classes:
        return
    if not {"classes", "order_seed", "increments", "first"} <= config.keys():
        return
    try:
        options = _ClassIncrementalOptions.model_validate(config)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        yield f"result.scenario.config.{place}: {error.errors()[0]['msg']}"
        return
    chosen = sorted(set(options.classes or range(len(card.classes))))
    seed = options.order_seed if seed is None else seed
    listed = options.class_order if seed is None else None
    order = listed or [chosen[i] for i in class_permutation(len(chosen), seed)]
    names = [card.classes[c] for c in order]
    start = stop = None
    if result.part is not None:
        sizes = options.sizes(len(names))
        start, stop = (sum(sizes[:end]) for end in result.part)
    if result.class_order != names[start:stop]:
        yield "result.class_order is not the order of its seed, or of its list"


@dataclass(frozen=True)
class ExpectedRecord:
    """What a plan states about one run: its options, seed and experiences."""

    strategy: dict[str, object]
    scenario: dict[str, object]
    seed: int
    part: tuple[int, int] | None


def against_plan(
    record: Record, plan: StudyPlan, wanted: ExpectedRecord, evaluating: bool
) -> Iterator[str]:
    """Compare a record with what the plan states about its run."""
    result, where = record.result, record.environment
    side = plan.evaluation if evaluating or plan.tunes_on_evaluation else plan.tuning
    facts: dict[str, tuple[object, object]] = {
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
        "result.numerics": (result.numerics, None),  # studies have no options for speed
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
    """Whether two values are equal, where a list equals a tuple, and a whole number a float."""
    return bool(np.array_equal(np.asarray(found, dtype=object), np.asarray(wanted, dtype=object)))
