"""Intervals of means, and ranks with their intervals."""

import functools
import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

__all__ = ["LEVEL", "MOST_LETTERED", "Rank", "interval", "letters", "ranks"]

LEVEL = 0.95
MOST_LETTERED = 50
"""Maximum number of ranked rows in a table with letters; more would be unreadable."""
RESAMPLES = 2000
_SEED = 20_240_611


def interval(strata: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Percentile interval of a mean by a stratified bootstrap (Efron & Tibshirani 1993).

    Args:
        strata: Values of runs by stratum; each stratum is resampled on its own.

    Returns:
        Lower and upper end; None if a stratum has only one value, so that its variation is unknown.
    """
    if not strata or any(len(values) < 2 for values in strata):
        return None
    total = sum(map(len, strata))
    means = np.zeros(RESAMPLES)
    for number, values in enumerate(strata):
        drawn = np.asarray(values, dtype=float)[_draws(len(values), number)]
        means += drawn.sum(axis=1) / total
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@functools.cache
def _draws(count: int, stratum: int) -> np.ndarray:
    """Indices, int64 [resamples, count]: the same for all rows, so that rows can be compared."""
    generator = np.random.default_rng([_SEED, stratum])
    return generator.integers(0, count, (RESAMPLES, count))


@dataclass(frozen=True)
class Rank:
    """Interval of a row's rank in its table."""

    low: int
    """1 + number of rows that are significantly better."""
    high: int
    """Number of ranked rows minus those that are significantly worse."""
    letters: str = ""
    """Letters of a compact letter display: rows without a common letter differ significantly; empty
    in a table with more than `MOST_LETTERED` ranked rows."""


def ranks(rows: Sequence[Mapping[Any, float]]) -> list[Rank | None]:
    """Intervals of ranks by pairwise tests, and letters for rows that do not differ significantly.

    A row is significantly better than another if the 95 % interval of the difference excludes zero:
    Student's paired interval over seeds where both have the same, else Welch's.

    Args:
        rows: Values by seed, larger is better; rows with fewer than two seeds are not ranked.
    """
    able = [i for i, row in enumerate(rows) if len(row) > 1]
    sign = _tell_apart([rows[i] for i in able])
    means = [float(np.mean(list(rows[i].values()))) for i in able]
    words = letters(sign != 0, means) if len(able) <= MOST_LETTERED else [""] * len(able)
    found: list[Rank | None] = [None] * len(rows)
    lows = 1 + (sign < 0).sum(axis=1)
    highs = len(able) - (sign > 0).sum(axis=1)
    for place, i in enumerate(able):
        found[i] = Rank(int(lows[place]), int(highs[place]), words[place])
    return found


def letters(apart: np.ndarray, means: Sequence[float]) -> list[str]:
    """Compact letter display by insert and absorb (Piepho 2004).

    Args:
        apart: bool [n, n], symmetric: which rows differ significantly.
        means: Mean of each row; letters are assigned from the largest mean on.

    Returns:
        By row its letters.
    """
    columns = [frozenset(range(len(means)))] if len(means) else []
    for one, other in itertools.combinations(range(len(means)), 2):
        if apart[one, other]:
            split = [c - {i} for c in columns if {one, other} <= c for i in (one, other)]
            kept = [c for c in columns if not {one, other} <= c]
            columns = _absorbed([*kept, *split])
    order = sorted(range(len(means)), key=lambda i: -means[i])
    place = {row: number for number, row in enumerate(order)}
    columns.sort(key=lambda column: sorted(place[row] for row in column))
    alphabet = string.ascii_lowercase
    sizes = itertools.count(1)
    names = ("".join(word) for size in sizes for word in itertools.product(alphabet, repeat=size))
    named = list(zip(columns, names, strict=False))  # after Z come AA, AB, ...
    joint = "" if len(columns) <= len(alphabet) else " "
    return [
        joint.join(name for column, name in named if row in column) for row in range(len(means))
    ]


def _absorbed(columns: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Return the columns without those that are subsets of another one."""
    distinct = sorted(set(columns), key=lambda column: (-len(column), sorted(column)))
    found: list[frozenset[int]] = []
    for column in distinct:
        if not any(column <= other for other in found):
            found.append(column)
    return found


def _tell_apart(rows: Sequence[Mapping[Any, float]]) -> np.ndarray:
    """int8 [n, n]: 1 where row i is significantly better than row j, -1 where worse, else 0."""
    sign = np.zeros((len(rows), len(rows)), dtype=np.int8)
    keys = [tuple(sorted(row, key=repr)) for row in rows]
    mean = np.array([np.mean(list(row.values())) for row in rows])
    # Variance of the mean, and degrees of freedom.
    spread = np.array([np.var(list(row.values()), ddof=1) / len(row) for row in rows])
    freedom = np.array([len(row) - 1.0 for row in rows])
    groups: dict[tuple, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    for key, members in groups.items():
        table = np.array([[rows[i][seed] for seed in key] for i in members])
        others = np.setdiff1d(np.arange(len(rows)), members)
        for i in members:
            own = np.array([rows[i][seed] for seed in key])
            sign[i, members] = _paired(own - table)
            sign[i, others] = _welch(
                mean[i] - mean[others],
                (spread[i], spread[others]),
                (freedom[i], freedom[others]),
            )
    return sign


def _paired(difference: np.ndarray) -> np.ndarray:
    """Signs of the significant differences [n, seeds]; 0 for the others."""
    count = difference.shape[1]
    error = difference.std(axis=1, ddof=1) / np.sqrt(count)
    return _clear(difference.mean(axis=1), error, np.full(len(difference), count - 1.0))


def _welch(
    difference: np.ndarray, spread: tuple[float, np.ndarray], freedom: tuple[float, np.ndarray]
) -> np.ndarray:
    total = spread[0] + spread[1]
    parts = spread[0] ** 2 / freedom[0] + spread[1] ** 2 / freedom[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        degrees = np.where(parts > 0, total**2 / parts, 1.0)
    return _clear(difference, np.sqrt(total), degrees)


def _clear(difference: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    reach = special.stdtrit(freedom, (1 + LEVEL) / 2) * error
    # Rounding errors are no difference; a larger difference that never varies is significant.
    apart = np.abs(difference) > np.maximum(reach, 1e-9)
    return (np.sign(difference) * apart).astype(np.int8)
