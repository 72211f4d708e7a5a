"""Two runs, or two sets of runs over seeds: is the difference more than chance?

Over samples: both learners answered the same test rows at the end of the same stream, so their
answers are paired. Exact McNemar test (McNemar 1947; the binomial form), and for the difference of
the accuracies the interval of Bonett & Price (2012, "Adjusted Wald confidence interval for a
difference of binomial proportions based on paired data"), which holds its level where the plain one
does not. It says whether these two trained models differ, not whether the methods do.

Over seeds: paired Student's t over runs that share a seed and a stream. It says whether the methods
differ over the choice of seeds.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

from clgym.errors import BadRecord
from clgym.files import sha256
from clgym.results.record import Record, read_record

__all__ = [
    "Comparison",
    "Difference",
    "Pair",
    "SamplePair",
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
class Pair:
    """Two runs of one stream and seed."""

    seed: int
    a: float
    """Last accuracy, as the record has it."""
    b: float
    counts: SamplePair
    samples: Difference


@dataclass(frozen=True)
class Comparison:
    """All that `compare` finds."""

    a: str
    """Strategy's name."""
    b: str
    scenario: str
    pairs: list[Pair]
    last: Difference
    """Of the last accuracies, over seeds."""
    average: Difference
    """Of the average incremental accuracies, over seeds."""


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
        raise BadRecord(
            expected="two sides with runs of the same seeds",
            found=f"{_seeds(left)} and {_seeds(right)}",
            fix="Run both sides with the same --seed and --order-seed",
        )
    pairs = [_pair(left[key], right[key]) for key in shared]
    chosen = [(left[key][1].result, right[key][1].result) for key in shared]
    lasts = [(x.last_accuracy, y.last_accuracy) for x, y in chosen]
    averages = [(x.average_incremental_accuracy, y.average_incremental_accuracy) for x, y in chosen]
    first, other = chosen[0]
    return Comparison(
        first.strategy.name,
        other.strategy.name,
        first.scenario.name,
        pairs,
        over_seeds(*zip(*lasts, strict=True)),
        over_seeds(*zip(*averages, strict=True)),
    )


Key = tuple[int, int]
Found = tuple[Path, Record]


def _seeds(records: dict[Key, Found]) -> str:
    return "seed " + ", ".join(str(seed) for seed, _ in sorted(records))


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


def _identity(record: Record) -> tuple:
    """What runs of one side share."""
    result = record.result
    return (result.strategy, result.scenario.name, result.scenario.config)


def _pair(left: Found, right: Found) -> Pair:
    a, b = left[1].result, right[1].result
    if a.scenario.digest != b.scenario.digest:
        raise BadRecord(
            expected="two runs of the same stream",
            found=f"{a.scenario.name} {a.scenario.digest[:8]} and "
            f"{b.scenario.name} {b.scenario.digest[:8]} at seed {a.seed}",
            fix="Run both on one scenario, with the same options and data",
        )
    counts = _count(_last_answers(*left), _last_answers(*right))
    return Pair(a.seed, a.last_accuracy, b.last_accuracy, counts, over_samples(counts))


def _last_answers(folder: Path, record: Record) -> dict[str, np.ndarray]:
    """What was predicted after the last experience, and the truth, row by row."""
    from safetensors.numpy import load

    facts = record.result.predictions
    try:
        data = (folder / facts.file).read_bytes()
    except OSError as error:
        raise BadRecord(
            expected=f"{facts.file} beside the record in {folder}",
            found=str(error.strerror),
            fix="Keep the files of a run together",
        ) from error
    if sha256(data) != facts.sha256:
        raise BadRecord(
            expected=f"{folder / facts.file} as the record's hash has it",
            found="other content",
            fix="Run it again into an empty folder",
        )
    answers, last = load(data), len(record.result.accuracy_matrix) - 1
    return {key: answers[f"{last}/{key}"] for key in ("experience", "row", "label", "predicted")}


def _count(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> SamplePair:
    for key in ("experience", "row", "label"):
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
