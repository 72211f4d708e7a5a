"""Compare two runs, or two sets of runs over seeds, by paired tests.

Learning streams are compared by the accuracies after the last experience, adaptation streams by the
errors of their predictions, and streams with two phases by both.

Over samples: both learners predicted the same rows, at the end of the same stream or along it, so
their predictions are paired. Exact McNemar test (McNemar 1947; the binomial form), and for the
difference of the accuracies the interval of Bonett & Price (2012, "Adjusted Wald confidence
interval for a difference of binomial proportions based on paired data"), which keeps its level
where the plain Wald interval does not. The test says whether these two trained models differ, not
whether the methods do. It assumes independent rows, but predictions along an adaptation stream
depend on earlier ones.

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
from clgym.results.grouping import Seeds, by_seed, classifier_of, method_of
from clgym.results.layout import run_folders
from clgym.results.predictions import PredictedRows, StoredPredictions
from clgym.results.record import AdaptationFacts, Result
from clgym.results.stored import StoredRun, open_run

__all__ = [
    "Adaptation",
    "Comparison",
    "Difference",
    "RunPair",
    "SamplePair",
    "SegmentPair",
    "ShiftPair",
    "compare",
    "compare_sides",
    "mcnemar",
    "over_samples",
    "over_seeds",
    "side_of",
]

LEVEL = 0.95
"""Confidence level of the intervals."""
Side = dict[Seeds, StoredRun]
"""Runs of one method by their seeds."""


@dataclass(frozen=True)
class Difference:
    """Difference A - B, as a fraction, with its interval and test."""

    mean: float
    low: float | None
    """Lower end of the 95 % interval; None if it cannot be computed."""
    high: float | None
    p: float | None
    """Two-sided p value; None if it cannot be computed."""
    n: int
    """Number of pairs."""


@dataclass(frozen=True)
class SamplePair:
    """Predictions of two learners for the same rows."""

    only_a: int
    """Number of rows that only A predicts correctly."""
    only_b: int
    n: int
    """Number of rows."""


@dataclass(frozen=True)
class RunPair:
    """Two runs of one stream and seed."""

    seed: int
    a: float
    """Last accuracy of A, as in its record."""
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
    """Error of A minus error of B."""


@dataclass(frozen=True)
class ShiftPair:
    """Two runs of one adaptation stream and seed."""

    seed: int
    a: float
    """Mean error of A, as in its record."""
    b: float
    counts: SamplePair
    samples: Difference
    """Error of A minus error of B, over all images."""
    segments: list[SegmentPair]


@dataclass(frozen=True)
class Adaptation:
    """Comparison of the adaptation phases of two sides."""

    pairs: list[ShiftPair]
    mean_error: Difference
    """Difference of the mean errors, over seeds."""
    pooled_error: Difference
    """Difference of the errors over all images, over seeds."""


@dataclass(frozen=True)
class Comparison:
    """Outcome of `compare`."""

    a: str
    """Name of the strategy, with the options that differ if both sides have the same strategy."""
    b: str
    scenario: str
    pairs: list[RunPair]
    """Pairs of runs on learning streams; empty on adaptation streams."""
    last: Difference | None
    """Difference of the last accuracies, over seeds; None on adaptation streams."""
    average: Difference | None
    """Difference of the average incremental accuracies, over seeds; None on adaptation streams, and
    if a run did not test every experience."""
    adaptation: Adaptation | None
    """Comparison of the adaptation phases; None on learning streams."""
    notes: list[str]
    """Remarks about the two sides that limit the comparison."""


def mcnemar(counts: SamplePair) -> float:
    """Two-sided p value of the exact McNemar test."""
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
    """Paired t test over runs; it needs two pairs and differences that are not all equal."""
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
        BadRecord: A record or its predictions cannot be read, or the sides cannot be paired.
    """
    left, right = (
        side_of(path, [open_run(place) for place in run_folders(path) or [path]]) for path in (a, b)
    )
    return compare_sides(left, right)


def compare_sides(left: Side, right: Side) -> Comparison:
    """Compare two sides whose runs are already opened; see `compare`."""
    shared = sorted(left.keys() & right.keys())
    if not shared:
        raise _no_pairs(left, right)
    sides = [(left[seeds], right[seeds]) for seeds in shared]
    results = [(one.result, other.result) for one, other in sides]
    for one, other in results:
        _check_stream(one, other)
    predictions = [(one.predictions(), other.predictions()) for one, other in sides]
    first, other = results[0]
    learns = first.kind != "adaptation"
    adapts = first.adaptation is not None
    return Comparison(
        *_names(first, other),
        first.scenario.name,
        [_pair(*r, *p) for r, p in zip(results, predictions, strict=True)] if learns else [],
        _over_seeds(results, lambda r: r.last_accuracy) if learns else None,
        _average(results) if learns else None,
        _adaptation(results, predictions) if adapts else None,
        [*_notes(left, right, results)],
    )


Results = list[tuple[Result, Result]]
BothPredictions = list[tuple[StoredPredictions, StoredPredictions]]


def _names(a: Result, b: Result) -> tuple[str, str]:
    one, other = a.strategy.config, b.strategy.config
    differing = [k for k in sorted({*one, *other}) if one.get(k) != other.get(k)]
    if a.strategy.label != b.strategy.label or not differing:
        return a.strategy.label, b.strategy.label
    left, right = (
        ", ".join(f"{key} {config[key]}" for key in differing if key in config)
        for config in (one, other)
    )
    return f"{a.strategy.label} ({left})", f"{b.strategy.label} ({right})"


def _over_seeds(results: Results, measure: Callable[[Result], float]) -> Difference:
    return over_seeds([measure(a) for a, _ in results], [measure(b) for _, b in results])


def _average(results: Results) -> Difference | None:
    """Difference of the average incremental accuracies; None if a run has none."""
    pairs = [(a.average_incremental_accuracy, b.average_incremental_accuracy) for a, b in results]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return over_seeds(*zip(*known, strict=True)) if len(known) == len(pairs) else None


def _adaptation(results: Results, predictions: BothPredictions) -> Adaptation:
    return Adaptation(
        [_shift_pair(*r, *p) for r, p in zip(results, predictions, strict=True)],
        _over_seeds(results, lambda r: _adapted(r).mean_error),
        _over_seeds(results, lambda r: _adapted(r).pooled_error),
    )


def _adapted(result: Result) -> AdaptationFacts:
    assert result.adaptation is not None
    return result.adaptation


def _no_pairs(left: Side, right: Side) -> BadRecord:
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


def _seeds(keys: Iterable[Seeds]) -> str:
    return "seed " + ", ".join(str(seed) for seed, _ in sorted(keys))


def _orders(keys: Iterable[Seeds]) -> str:
    return ", ".join(
        f"seed {seed} in the preset's order"
        if order < 0
        else f"seed {seed} with order seed {order}"
        for seed, order in sorted(keys)
    )


def _notes(left: Side, right: Side, results: Results) -> Iterator[str]:
    for side, own, other in (("A", left, right), ("B", right, left)):
        if alone := own.keys() - other.keys():
            yield f"left out, since only {side} has them: {_orders(alone)}"
    if any(classifier_of(a) != classifier_of(b) for a, b in results):
        yield "A and B started from different classifiers, which contribute to the difference"
    for side, own in (("A", left), ("B", right)):
        lacking = [r.result for r in own.values() if r.result.average_incremental_accuracy is None]
        if lacking:
            yield f"average incremental accuracy not compared: {side} was {lacking[0].tests}"


def side_of(path: Path, runs: Iterable[StoredRun]) -> Side:
    """Arrange the runs of one side, which may differ only in their seeds, by seeds.

    Args:
        path: Folder of the runs, for messages.
        runs: Runs of one method.

    Raises:
        BadRecord: Two runs have one seed, runs differ in more than their seeds, or a record
            contradicts itself.
    """
    groups = by_seed(runs, lambda run: run.result)
    for run in (run for group in groups.values() for run in group):
        run.check()
    for seeds, group in groups.items():
        if len(group) > 1:
            raise BadRecord(
                expected=f"one run for each seed in {path}",
                found=f"two with seed {seeds[0]}: {group[0].folder} and {group[1].folder}",
                fix="Keep the runs of one side in a folder of their own",
            )
    side = {seeds: group[0] for seeds, group in groups.items()}
    for (one, left), (other, right) in itertools.pairwise(side.items()):
        if method_of(left.result) != method_of(right.result):
            raise BadRecord(
                expected=f"runs that differ only in their seeds in {path}",
                found=f"different options with seed {one[0]} and with seed {other[0]}",
                fix="Keep the runs of one side in a folder of their own",
            )
    return side


def _check_stream(a: Result, b: Result) -> None:
    if a.scenario.digest != b.scenario.digest:
        raise BadRecord(
            expected="two runs of the same stream",
            found=f"{a.scenario.name} {a.scenario.digest[:8]} and "
            f"{b.scenario.name} {b.scenario.digest[:8]} at seed {a.seed}",
            fix="Run both on the same scenario, options and data",
        )


def _pair(a: Result, b: Result, left: StoredPredictions, right: StoredPredictions) -> RunPair:
    last = len(a.accuracy_matrix) - 1
    counts = _count("experience", left.after(last), right.after(last))
    return RunPair(a.seed, a.last_accuracy, b.last_accuracy, counts, over_samples(counts))


def _shift_pair(
    a: Result, b: Result, left: StoredPredictions, right: StoredPredictions
) -> ShiftPair:
    segments = [
        _segment_pair(segment.name, one.by_image(), other.by_image())
        for segment, one, other in zip(
            _adapted(a).segments, left.segments(), right.segments(), strict=True
        )
    ]
    counts = [segment.counts for segment in segments]
    whole = SamplePair(
        sum(c.only_a for c in counts), sum(c.only_b for c in counts), sum(c.n for c in counts)
    )
    errors = _adapted(a).mean_error, _adapted(b).mean_error
    return ShiftPair(a.seed, *errors, whole, _of_errors(whole), segments)


def _segment_pair(name: str, a: PredictedRows, b: PredictedRows) -> SegmentPair:
    counts = _count("domain", a, b)
    one, other = (float((~side.hits).mean()) for side in (a, b))
    return SegmentPair(name, one, other, counts, _of_errors(counts))


def _of_errors(counts: SamplePair) -> Difference:
    """Difference of errors, A - B: a row that only B has right is one more error of A."""
    return over_samples(SamplePair(counts.only_b, counts.only_a, counts.n))


def _count(group: str, a: PredictedRows, b: PredictedRows) -> SamplePair:
    """Count the rows that only one side has right; ``group`` is the name of their group."""
    pairs = {group: (a.group, b.group), "row": (a.row, b.row), "label": (a.label, b.label)}
    for name, (one, other) in pairs.items():
        if not np.array_equal(one, other):
            raise BadRecord(
                expected="predictions for the same test rows on both sides",
                found=f"another {name}",
                fix="Run both with the same version of clgym",
            )
    return SamplePair(int((a.hits & ~b.hits).sum()), int((b.hits & ~a.hits).sum()), len(a.hits))
