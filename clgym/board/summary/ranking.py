"""Compare several methods: Friedman's test over blocks, and Nemenyi's test of all pairs.

On one stream the blocks are the seeds (with their class orders) that all methods have. On several
streams they are the streams, each with the mean over its seeds: runs of one stream are not
independent of each other (Demsar 2006, "Statistical comparisons of classifiers over multiple data
sets").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from clgym.board.summary.grid import Grid
from clgym.board.summary.measures import MEASURES, TableMeasure
from clgym.errors import BadRecord
from clgym.results.compare import LEVEL
from clgym.results.grouping import seeds_of

__all__ = ["FEW_BLOCKS", "Pairwise", "Ranking", "cliques", "critical_difference", "rank_grid"]

FEW_BLOCKS = 6
"""Number of blocks below which the approximations of both tests are coarse."""
_DIGITS = 12
"""Number of decimals of the ranked values; differences beyond them are rounding errors."""


@dataclass(frozen=True)
class Pairwise:
    """Nemenyi's test of two methods."""

    a: str
    b: str
    difference: float
    """Mean rank of A minus mean rank of B."""
    p: float
    """p value, adjusted for all pairs."""


@dataclass(frozen=True)
class Ranking:
    """Several methods ranked over the same blocks."""

    methods: tuple[str, ...]
    """Names, the best mean rank first."""
    mean_ranks: tuple[float, ...]
    """Mean rank of each method over the blocks; 1 is best, ties share the mean of their ranks."""
    means: tuple[float, ...]
    """Mean of the measure over the blocks, a fraction."""
    measure: str
    """Name of the measure that was ranked."""
    blocks: tuple[str, ...]
    """Names of the blocks: seeds of one stream, or streams."""
    statistic: float
    """Friedman's chi-squared statistic, corrected for ties."""
    p: float
    """p value of Friedman's test: whether the methods differ at all."""
    critical_difference: float
    """Smallest difference of mean ranks that is significant by Nemenyi's test."""
    pairs: tuple[Pairwise, ...]
    groups: tuple[tuple[str, ...], ...]
    """Largest groups of neighbouring methods that do not differ significantly."""
    notes: tuple[str, ...]


def critical_difference(methods: int, blocks: int) -> float:
    """Nemenyi's critical difference of mean ranks at level 0.05.

    Args:
        methods: Number of methods, at least 2.
        blocks: Number of blocks.
    """
    quantile = float(stats.studentized_range.ppf(LEVEL, methods, np.inf))
    return quantile / math.sqrt(2) * _error(methods, blocks)


def _error(methods: int, blocks: int) -> float:
    """Standard error of the difference of two mean ranks."""
    return math.sqrt(methods * (methods + 1) / (6 * blocks))


def cliques(ranks: Sequence[float], reach: float) -> list[tuple[int, int]]:
    """Maximal groups of neighbours whose mean ranks differ by less than ``reach``.

    Args:
        ranks: Mean ranks, ascending.
        reach: Critical difference.

    Returns:
        First and last place of each group of two or more.
    """
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(i for i in range(first, len(ranks)) if ranks[i] - ranks[first] < reach)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def rank_grid(grid: Grid, name: str | None = None) -> Ranking:
    """Rank the methods of a grid.

    Args:
        grid: Methods by streams.
        name: Name of the measure that is ranked; None means the last accuracy, or the mean error if
            a stream is an adaptation stream.

    Raises:
        BadRecord: Fewer than three methods have at least two blocks in common.
    """
    measure = MEASURES[name or _usual(grid)]
    methods, blocks, values, notes = _blocks(grid, measure)
    if len(methods) < 3 or len(blocks) < 2:
        lacking = [
            f"; {name} on {stream} was {result.tests}"
            for (name, stream), method in grid.cells.items()
            if measure.value(result := method.results[0]) is None
            and result.average_incremental_accuracy is None
        ]
        raise BadRecord(
            expected="three methods or more with at least two common blocks (seeds of one stream "
            "with the same class orders, or streams)",
            found=f"{len(methods)} methods with {len(blocks)} common blocks, by the measure "
            f"{measure.name}{''.join(lacking)}",
            fix="Run all methods with the same --seeds, --order-seeds and scenarios",
        )
    return _ranked(methods, blocks, values, measure, notes)


def _usual(grid: Grid) -> str:
    results = [m.results[0] for m in grid.cells.values()]
    return "error" if any(result.kind == "adaptation" for result in results) else "last"


Blocks = tuple[list[str], list[str], np.ndarray, list[str]]
"""Names of methods, names of blocks, float [methods, blocks], notes."""


def _blocks(grid: Grid, measure: TableMeasure) -> Blocks:
    """The values of every method in every block; blocks that some method lacks are left out."""
    values: dict[str, dict[str, float]] = {name: {} for name in grid.methods}
    for (name, stream), method in grid.cells.items():
        for result in method.results if not method.absent else ():
            value = measure.value(result)
            if value is not None:
                seed, order = seeds_of(result)
                where = f"seed {seed}" + (f", order seed {order}" if order >= 0 else "")
                values[name][f"{stream}\n{where}"] = value
    shared = _common(values)
    notes = [
        f"{stream}: left out, since not all methods have common seeds there"
        for stream in grid.streams
        if len(grid.streams) > 1 and stream not in {key.partition("\n")[0] for key in shared}
    ]
    left = sorted({key for own in values.values() for key in own} - set(shared))
    if left and len(grid.streams) == 1:
        names = "; ".join(key.partition("\n")[2] for key in left)
        notes.append(f"left out, since not all methods have it: {names}")
    table = np.array([[values[name][key] for key in shared] for name in grid.methods])
    if not shared:
        return list(grid.methods), [], np.empty((len(grid.methods), 0)), notes
    if len(grid.streams) == 1:
        return list(grid.methods), [key.partition("\n")[2] for key in shared], table, notes
    streams = list(dict.fromkeys(key.partition("\n")[0] for key in shared))
    columns = [[i for i, key in enumerate(shared) if key.startswith(f"{s}\n")] for s in streams]
    means = [table[:, own].mean(axis=1) for own in columns]
    return list(grid.methods), streams, np.array(means).reshape(len(streams), -1).T, notes


def _common(values: dict[str, dict[str, float]]) -> list[str]:
    """Keys that all methods have, in the order of the first."""
    first, *others = values.values()
    return [key for key in first if all(key in other for other in others)]


def _ranked(
    methods: list[str],
    blocks: list[str],
    values: np.ndarray,
    measure: TableMeasure,
    notes: list[str],
) -> Ranking:
    scores = np.round(measure.sign * values, _DIGITS)
    ranks = stats.rankdata(-scores, axis=0)
    mean = ranks.mean(axis=1)
    order = np.argsort(mean, kind="stable")
    names, mean = [methods[i] for i in order], mean[order]
    reach = critical_difference(len(methods), len(blocks))
    alike = bool((scores == scores[0]).all())  # SciPy divides by zero if all values are tied
    statistic, p = (0.0, 1.0) if alike else map(float, stats.friedmanchisquare(*scores))
    if len(blocks) < FEW_BLOCKS:
        notes = [*notes, f"only {len(blocks)} blocks: both tests are approximate and find little"]
    return Ranking(
        methods=tuple(names),
        mean_ranks=tuple(map(float, mean)),
        means=tuple(float(v) for v in values.mean(axis=1)[order]),
        measure=measure.name,
        blocks=tuple(blocks),
        statistic=statistic,
        p=p,
        critical_difference=reach,
        pairs=tuple(_pairs(names, mean, len(blocks))),
        groups=tuple(tuple(names[low : high + 1]) for low, high in cliques(mean.tolist(), reach)),
        notes=tuple(notes),
    )


def _pairs(names: Sequence[str], mean: np.ndarray, blocks: int) -> list[Pairwise]:
    """Nemenyi's test of every pair, by the distribution of the studentized range."""
    error = _error(len(names), blocks)
    found = []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            difference = float(mean[i] - mean[j])
            distance = abs(difference) / error * math.sqrt(2)
            p = float(stats.studentized_range.sf(distance, len(names), np.inf))
            found.append(Pairwise(names[i], names[j], difference, min(1.0, max(0.0, p))))
    return found
