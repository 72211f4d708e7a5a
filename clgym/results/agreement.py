"""Agreement of two rankings: Spearman's and Kendall's correlation, with intervals. No torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Correlation", "RankAgreement", "rank_agreement"]

RESAMPLES = 2000
_SEED = 20_240_611
_LEVEL = 0.95
_AT_ONCE = 2**20
"""Number of differences that are held at once."""


@dataclass(frozen=True)
class Correlation:
    """A correlation of ranks, and its interval."""

    value: float
    """-1 (reversed) to 1 (equal ranks)."""
    low: float
    """Lower end of the 95 % percentile interval of a bootstrap over what is ranked."""
    high: float

    def __str__(self) -> str:
        """Show the value and its interval with two decimals."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class RankAgreement:
    """How well two rankings of the same things agree."""

    n: int
    """Number of things that are ranked."""
    spearman: Correlation
    """Pearson's correlation of the ranks; equal scores share their mean rank (Spearman 1904)."""
    kendall: Correlation
    """Kendall's tau-b, which corrects for equal scores (Kendall 1945)."""


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> RankAgreement | None:
    """Correlations of the ranks by two scores, with bootstrap intervals (Efron & Tibshirani 1993).

    The bootstrap draws pairs of scores, so an interval says how much a correlation depends on what
    happened to be ranked, not on the noise of a single score. Draws in which all scores of one side
    are equal have no correlation and are left out.

    Args:
        one: Scores by one ranking, [n].
        other: Scores by the other ranking, [n], in the same order.

    Returns:
        The correlations; None if all scores of one side are equal.

    Raises:
        ValueError: The two differ in length.
    """
    both = np.array([one, other], dtype=float)
    if both.shape[1] == 0 or (both == both[:, :1]).all(axis=1).any():
        return None
    n = both.shape[1]
    both = both[:, np.lexsort(both)]  # so that the intervals do not depend on the order
    drawn = np.random.default_rng(_SEED).integers(0, n, (RESAMPLES, n))
    spearman, kendall = (_with_interval(both, drawn, vector) for vector in (_centred_ranks, _signs))
    return RankAgreement(n, spearman, kendall)


def _with_interval(
    both: np.ndarray, drawn: np.ndarray, vector: Callable[[np.ndarray], np.ndarray]
) -> Correlation:
    size = max(1, _AT_ONCE // both.shape[1] ** 2)
    parts = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    values = np.concatenate([_cosine(*vector(both[:, part])) for part in parts])
    tail = (1 - _LEVEL) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Correlation(float(_cosine(*vector(both))), float(low), float(high))


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine of the angle between vectors, [...] from [..., m] each; NaN if one is zero."""
    lengths = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    product = (one * other).sum(-1)
    return np.divide(product, lengths, out=np.full_like(lengths, np.nan), where=lengths > 0)


def _centred_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean ranks of scores [..., n] minus their mean; their cosine is Spearman's correlation."""
    return _differences(scores).sum(-1) / 2


def _signs(scores: np.ndarray) -> np.ndarray:
    """Signs of the differences of all pairs, [..., n * n], whose cosine is Kendall's tau-b."""
    return _differences(scores).reshape(*scores.shape[:-1], -1)


def _differences(scores: np.ndarray) -> np.ndarray:
    return np.sign(scores[..., :, None] - scores[..., None, :])
