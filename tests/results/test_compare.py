"""Paired tests against closed forms and SciPy's."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clgym.results.compare import Difference, SamplePair, mcnemar, over_samples, over_seeds


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail(only_a, only_b):
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum((Fraction(math.comb(n, i), 2**n) for i in range(k + 1)), Fraction(0))
    expected = float(min(Fraction(1), 2 * tail))
    assert mcnemar(SamplePair(only_a, only_b, 200)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("only_a", "only_b"), [(3000, 3100), (10, 2000), (1, 0), (0, 0)])
def test_mcnemar_agrees_with_scipy_on_many_rows(only_a, only_b):
    n = only_a + only_b
    expected = stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert mcnemar(SamplePair(only_a, only_b, 10_000)) == pytest.approx(expected, rel=1e-9)


def test_interval_by_hand():
    # 14 rows only A has right, 6 only B, of 98: adjusted 0.15 and 0.07 of 100.
    found = over_samples(SamplePair(14, 6, 98))
    spread = math.sqrt((0.15 + 0.07 - 0.08**2) / 100)
    assert found.mean == pytest.approx(8 / 98)
    assert found.low == pytest.approx(0.08 - 1.959963984540054 * spread)
    assert found.high == pytest.approx(0.08 + 1.959963984540054 * spread)
    assert found.n == 98


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_interval_is_antisymmetric_and_inside(only_a, only_b, rest):
    n = only_a + only_b + rest + 1
    one, other = (
        over_samples(SamplePair(only_a, only_b, n)),
        over_samples(SamplePair(only_b, only_a, n)),
    )
    assert one.low is not None and one.high is not None and other.low is not None
    assert -1 <= one.low <= one.high <= 1
    assert one.high == pytest.approx(-other.low)
    assert one.p == other.p


def test_the_interval_covers_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    truth, inside = 0.12 - 0.05, 0
    for _ in range(2000):
        only_a, only_b, _ = generator.multinomial(100, [0.12, 0.05, 0.83])
        found = over_samples(SamplePair(int(only_a), int(only_b), 100))
        assert found.low is not None and found.high is not None
        inside += found.low <= truth <= found.high
    assert 0.93 < inside / 2000 < 0.98


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_seeds_agree_with_scipy(values):
    a, b = np.array(values).T
    found = over_seeds(a, b)
    if np.std(a - b) < 1e-9:
        return
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert found.low == pytest.approx(interval.low, abs=1e-9)
    assert found.high == pytest.approx(interval.high, abs=1e-9)


def test_seeds_that_change_nothing_are_not_tested():
    assert over_seeds([0.5, 0.7, 0.9], [0.4, 0.6, 0.8]).p is None
    assert over_seeds([0.5], [0.25]) == Difference(0.25, None, None, None, 1)
