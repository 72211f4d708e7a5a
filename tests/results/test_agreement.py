"""Rank correlations against SciPy, and their bootstrap intervals."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as typed

from clgym.results import agreement
from clgym.results.agreement import rank_agreement

stats: Any = typed  # whose results have no types

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=12)


@given(PAIRS)
def test_correlations_are_scipys(pairs: list[tuple[int, int]]) -> None:
    """With ties on both sides."""
    one, other = (np.array(side) / 7 for side in zip(*pairs, strict=True))
    found = rank_agreement(one.tolist(), other.tolist())
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found is None
        return
    assert found is not None and found.n == len(pairs)
    assert found.spearman.value == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)
    assert found.kendall.value == pytest.approx(stats.kendalltau(one, other).statistic, abs=1e-12)
    for correlation in (found.spearman, found.kendall):
        assert -1 - 1e-12 <= correlation.low <= correlation.high <= 1 + 1e-12


def test_intervals_are_those_of_scipys_bootstrap() -> None:
    generator = np.random.default_rng(0)
    one = generator.normal(size=20)
    other = one + generator.normal(size=20)
    found = rank_agreement(one.tolist(), other.tolist())
    assert found is not None
    for name, own in (("spearmanr", found.spearman), ("kendalltau", found.kendall)):
        statistic = getattr(stats, name)
        oracle = stats.bootstrap(
            (one, other),
            lambda x, y, statistic=statistic: statistic(x, y).statistic,
            paired=True,
            vectorized=False,
            n_resamples=2000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert own.low == pytest.approx(oracle.low, abs=0.04)
        assert own.high == pytest.approx(oracle.high, abs=0.04)


def test_intervals_do_not_depend_on_the_order_or_on_how_many_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(2)
    one, other = generator.integers(0, 5, (2, 12)).astype(float)
    order = generator.permutation(12)
    found = rank_agreement(one.tolist(), other.tolist())
    assert rank_agreement(one[order].tolist(), other[order].tolist()) == found
    monkeypatch.setattr(agreement, "_AT_ONCE", 500)
    assert rank_agreement(one.tolist(), other.tolist()) == found


def test_reversed_ranks_correlate_by_minus_one() -> None:
    found = rank_agreement([1, 2, 3, 4], [4, 3, 2, 1])
    assert found is not None
    assert (found.spearman.value, found.kendall.value) == (pytest.approx(-1), pytest.approx(-1))
    assert str(found.spearman) == "-1.00 [-1.00, -1.00]"


def test_rankings_of_nothing_and_of_different_things() -> None:
    assert rank_agreement([], []) is None
    with pytest.raises(ValueError, match="inhomogeneous"):
        rank_agreement([1, 2], [1])
