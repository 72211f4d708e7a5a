"""Two runs, or two sets of runs over seeds: is the difference more than chance?

Compared is what the records measured: accuracies after the last experience of what was learned,
errors of what was answered while adapting, of streams with two phases both.

Over samples: both learners answered the same rows, at the end of the same stream or along it, so
their answers are paired. Exact McNemar test (McNemar 1947; the binomial form), and for the
difference of the accuracies the interval of Bonett & Price (2012, "Adjusted Wald confidence
interval for a difference of binomial proportions based on paired data"), which holds its level
where the plain one does not. It says whether these two trained models differ, not whether the
methods do. Answers along an adaptation stream follow from one another, which the test does not
know.

Over seeds: paired Student's t over runs that share a seed and a stream. It says whether the methods
differ over the choice of seeds.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special  # pyright: ignore[reportMissingTypeStubs]  # scipy ships none

from clgym.errors import BadRecord
from clgym.results.answers import Answers, adapted_answers, answers_of, learned_answers
from clgym.results.record import AdaptationFacts, Record, Result, read_record

__all__ = [
    "Adaptation",
    "Comparison",
    "Difference",
    "RunPair",
    "SamplePair",
    "SegmentPair",
    "ShiftPair",
    "classifier_of",
    "compare",
    "mcnemar",
    "over_samples",
    "over_seeds",
]

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Difference:
    """How much more A has than B, as a fraction."""

    mean: float
    low: float | None
    """Lower end of the 95 % interval; None where it cannot be told."""
    high: float | None
    p: float | None
    """Two-sided; None where it cannot be told."""
    n: int
    """Pairs."""


@dataclass(frozen=True)
class SamplePair:
    """Answers of two learners to the same rows."""

    only_a: int
    """Rows that A alone has right."""
    only_b: int
    n: int
    """All rows."""


@dataclass(frozen=True)
class RunPair:
    """Two runs of one stream and seed."""

    seed: int
    a: float
    """Last accuracy, as the record has it."""
    b: float
    counts: SamplePair
    samples: Difference


@dataclass(frozen=True)
class SegmentPair:
    """One segment of an adaptation stream, of two runs."""

    name: str
    a: float
    """Error of A."""
    b: float
    counts: SamplePair
    samples: Difference
    """How much larger the error of A is."""


@dataclass(frozen=True)
class ShiftPair:
    """Two runs of one adaptation stream and seed."""

    seed: int
    a: float
    """Mean error of A, as the record has it."""
    b: float
    counts: SamplePair
    samples: Difference
    """How much larger the error of A is, over all images."""
    segments: list[SegmentPair]


@dataclass(frozen=True)
class Adaptation:
    """What was answered while adapting."""

    pairs: list[ShiftPair]
    mean_error: Difference
    """Of the mean errors, over seeds."""
    pooled_error: Difference
    """Of the errors over all images, over seeds."""


@dataclass(frozen=True)
class Comparison:
    """All that `compare` finds."""

    a: str
    """Name of the strategy, with the options that differ where both sides have one strategy."""
    b: str
    scenario: str
    pairs: list[RunPair]
    """What was learned; empty on adaptation streams."""
    last: Difference | None
    """Of the last accuracies, over seeds; None on adaptation streams."""
    average: Difference | None
    """Of the average incremental accuracies, over seeds; None on adaptation streams."""
    adaptation: Adaptation | None
    """None on learning streams."""
    notes: list[str]
    """What a reader should know of the two sides."""


def mcnemar(counts: SamplePair) -> float:
    """Two-sided exact p: given the rows where one alone is right, A has each with chance 1/2."""
    discordant = counts.only_a + counts.only_b
    tail = special.bdtr(min(counts.only_a, counts.only_b), discordant, 0.5) if discordant else 1.0
    return min(1.0, 2.0 * float(tail))


def over_samples(counts: SamplePair) -> Difference:
    """Difference of two accuracies on the same rows."""
    adjusted_a, adjusted_b = (
        (only + 1) / (counts.n + 2) for only in (counts.only_a, counts.only_b)
    )
    centre = adjusted_a - adjusted_b
    spread = math.sqrt((adjusted_a + adjusted_b - centre**2) / (counts.n + 2))
    reach = float(special.ndtri((1 + LEVEL) / 2)) * spread
    mean = (counts.only_a - counts.only_b) / counts.n
    return Difference(
        mean, max(-1.0, centre - reach), min(1.0, centre + reach), mcnemar(counts), counts.n
    )


def over_seeds(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Paired t over runs: needs two pairs, and differences that are not all the same."""
    differences = np.subtract(a, b)
    n, mean = len(differences), float(np.mean(differences))
    spread = float(np.std(differences, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    # Runs that do not depend on the seed differ by rounding alone: no spread to test against.
    if spread < 1e-12:
        return Difference(mean, None, None, None, n)
    reach = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * spread
    p = 2.0 * float(special.stdtr(n - 1, -abs(mean) / spread))
    return Difference(mean, mean - reach, mean + reach, p, n)


def compare(a: Path, b: Path) -> Comparison:
    """Compare two runs, or two folders of runs over seeds.

    Args:
        a: ``record.json``, the folder that holds one, or a folder of such folders.
        b: The same for the other side.

    Raises:
        BadRecord: a record or its predictions cannot be read, or the two cannot be paired.
    """
    left, right = _records(a), _records(b)
    shared = sorted(left.keys() & right.keys())
    if not shared:
        raise _no_pairs(left, right)
    sides = [(left[key], right[key]) for key in shared]
    for one, other in sides:
        _check_stream(one[1].result, other[1].result)
    answers = [(answers_of(*one), answers_of(*other)) for one, other in sides]
    results = [(one[1].result, other[1].result) for one, other in sides]
    first, other = results[0]
    learns = first.scenario.setting != "adaptation"
    adapts = first.adaptation is not None
    return Comparison(
        *_names(first, other),
        first.scenario.name,
        [_pair(*r, *a) for r, a in zip(results, answers, strict=True)] if learns else [],
        _over_seeds(results, lambda r: r.last_accuracy) if learns else None,
        _over_seeds(results, lambda r: r.average_incremental_accuracy) if learns else None,
        _adaptation(results, answers) if adapts else None,
        [*_notes(left, right, results)],
    )


Key = tuple[int, int]
Found = tuple[Path, Record]
Results = list[tuple[Result, Result]]


def _names(a: Result, b: Result) -> tuple[str, str]:
    one, other = a.strategy.config, b.strategy.config
    differing = [k for k in sorted({*one, *other}) if one.get(k) != other.get(k)]
    if a.strategy.name != b.strategy.name or not differing:
        return a.strategy.name, b.strategy.name
    left, right = (
        ", ".join(f"{key} {config[key]}" for key in differing if key in config)
        for config in (one, other)
    )
    return f"{a.strategy.name} ({left})", f"{b.strategy.name} ({right})"


def _over_seeds(results: Results, measure: Callable[[Result], float]) -> Difference:
    return over_seeds([measure(a) for a, _ in results], [measure(b) for _, b in results])


def _adaptation(results: Results, answers: list[tuple[Answers, Answers]]) -> Adaptation:
    return Adaptation(
        [_shift_pair(*r, *a) for r, a in zip(results, answers, strict=True)],
        _over_seeds(results, lambda r: _adapted(r).mean_error),
        _over_seeds(results, lambda r: _adapted(r).pooled_error),
    )


def _adapted(result: Result) -> AdaptationFacts:
    assert result.adaptation is not None
    return result.adaptation


def _no_pairs(left: dict[Key, Found], right: dict[Key, Found]) -> BadRecord:
    if {seed for seed, _ in left} & {seed for seed, _ in right}:
        return BadRecord(
            expected="two sides with runs of the same class orders",
            found=f"{_orders(left)} against {_orders(right)}",
            fix="Run both sides with the same --order-seed",
        )
    return BadRecord(
        expected="two sides with runs of the same seeds",
        found=f"{_seeds(left)} and {_seeds(right)}",
        fix="Run both sides with the same --seed and --order-seed",
    )


def _seeds(keys: Iterable[Key]) -> str:
    return "seed " + ", ".join(str(seed) for seed, _ in sorted(keys))


def _orders(keys: Iterable[Key]) -> str:
    return ", ".join(
        f"seed {seed} in the preset's order"
        if order < 0
        else f"seed {seed} with order seed {order}"
        for seed, order in sorted(keys)
    )


def _notes(left: dict[Key, Found], right: dict[Key, Found], results: Results) -> Iterator[str]:
    for side, own, other in (("A", left, right), ("B", right, left)):
        if alone := own.keys() - other.keys():
            yield f"left out, since only {side} has them: {_orders(alone)}"
    if any(classifier_of(a) != classifier_of(b) for a, b in results):
        yield "A and B started from different classifiers: the difference is theirs too"


def _records(path: Path) -> dict[Key, Found]:
    """Records at a place by (seed, order seed); -1 stands for the preset's order."""
    inside = sorted(path.glob("*/record.json")) if path.is_dir() else []
    files = inside if inside and not (path / "record.json").exists() else [path]
    found: dict[Key, Found] = {}
    for file in files:
        record = read_record(file)
        order = record.result.order_seed
        key = (record.result.seed, -1 if order is None else order)
        if key in found:
            raise BadRecord(
                expected=f"one run for each seed in {path}",
                found=f"two with seed {key[0]}: {found[key][0]} and {file}",
                fix="Keep the runs of one side in a folder of their own",
            )
        found[key] = (file if file.is_dir() else file.parent, record)
    facts = {key: _identity(record) for key, (_, record) in found.items()}
    for (one, left), (other, right) in itertools.pairwise(facts.items()):
        if left != right:
            raise BadRecord(
                expected=f"runs that differ in seeds only in {path}",
                found=f"other options with seed {one[0]} than with seed {other[0]}",
                fix="Keep the runs of one side in a folder of their own",
            )
    return found


def _identity(record: Record) -> tuple[object, ...]:
    """What runs of one side share."""
    result = record.result
    facts = result.scenario
    return (result.strategy, facts.name, facts.config, classifier_of(result))


def classifier_of(result: Result) -> str | None:
    """Hash of the classifier that a run was given; None if it learned its own or had none."""
    if result.adaptation is None or result.scenario.setting != "adaptation":
        return None
    return result.adaptation.model.sha256


def _check_stream(a: Result, b: Result) -> None:
    if a.scenario.digest != b.scenario.digest:
        raise BadRecord(
            expected="two runs of the same stream",
            found=f"{a.scenario.name} {a.scenario.digest[:8]} and "
            f"{b.scenario.name} {b.scenario.digest[:8]} at seed {a.seed}",
            fix="Run both on one scenario, with the same options and data",
        )


def _pair(a: Result, b: Result, left: Answers, right: Answers) -> RunPair:
    counts = _count(learned_answers(a, left), learned_answers(b, right))
    return RunPair(a.seed, a.last_accuracy, b.last_accuracy, counts, over_samples(counts))


def _shift_pair(a: Result, b: Result, left: Answers, right: Answers) -> ShiftPair:
    one, other = adapted_answers(a, left), adapted_answers(b, right)
    segments = [
        _segment_pair(segment.name, x, y)
        for segment, x, y in zip(_adapted(a).segments, one, other, strict=True)
    ]
    counts = [segment.counts for segment in segments]
    whole = SamplePair(
        sum(c.only_a for c in counts), sum(c.only_b for c in counts), sum(c.n for c in counts)
    )
    errors = _adapted(a).mean_error, _adapted(b).mean_error
    return ShiftPair(a.seed, *errors, whole, _of_errors(whole), segments)


def _segment_pair(name: str, a: Answers, b: Answers) -> SegmentPair:
    counts = _count(a, b)
    one, other = (float((side["predicted"] != side["label"]).mean()) for side in (a, b))
    return SegmentPair(name, one, other, counts, _of_errors(counts))


def _of_errors(counts: SamplePair) -> Difference:
    """A row that B alone has right is an error more of A."""
    return over_samples(SamplePair(counts.only_b, counts.only_a, counts.n))


def _count(a: Answers, b: Answers) -> SamplePair:
    for key in a.keys() - {"predicted"}:
        if not np.array_equal(a[key], b[key]):
            raise BadRecord(
                expected="predictions for the same test rows on both sides",
                found=f"another {key}",
                fix="Run both with the same version of clgym",
            )
    right_a, right_b = a["predicted"] == a["label"], b["predicted"] == b["label"]
    return SamplePair(
        int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum()), len(right_a)
    )
