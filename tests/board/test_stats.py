"""Intervals against enumeration, ranks against SciPy's tests."""

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from clgym.board.stats import interval, ranks


def test_an_interval_has_the_quantiles_of_all_resamples():
    values = [0.2, 0.45, 0.5, 0.7, 0.9]
    means = [np.mean(drawn) for drawn in itertools.product(values, repeat=5)]
    low, high = np.quantile(means, [0.025, 0.975])
    found = interval([values])
    assert found is not None
    assert found == pytest.approx((low, high), abs=0.015)


def test_strata_are_drawn_by_themselves():
    # Between the strata all, within them nothing: only an unstratified bootstrap would spread.
    assert interval([[0.1, 0.1], [0.9, 0.9, 0.9]]) == pytest.approx((0.58, 0.58))


@pytest.mark.parametrize("strata", [[], [[0.5]], [[0.5, 0.6], [0.7]]])
def test_one_value_has_no_interval(strata):
    assert interval(strata) is None


def test_equal_values_give_equal_intervals():
    assert interval([[0.1, 0.4, 0.3]]) == interval([[0.1, 0.4, 0.3]])


def _clearly_better(a: dict, b: dict) -> bool:
    if a.keys() == b.keys():
        keys = sorted(a)
        found = reference.ttest_rel([a[k] for k in keys], [b[k] for k in keys])
    else:
        found = reference.ttest_ind(list(a.values()), list(b.values()), equal_var=False)
    low = found.confidence_interval(0.95).low
    return bool(low > 0)


@pytest.mark.parametrize("draw", range(5))
def test_ranks_count_what_is_clearly_better(draw):
    generator = np.random.default_rng(draw)
    rows = []
    for i in range(12):
        seeds = range(3) if i % 2 else range(10, 14)
        rows.append({s: 0.05 * i + generator.normal(0, 0.05) for s in seeds})
    found = ranks(rows)
    for row, rank in zip(rows, found, strict=True):
        assert rank is not None
        assert rank.low == 1 + sum(_clearly_better(other, row) for other in rows)
        assert rank.high == len(rows) - sum(_clearly_better(row, other) for other in rows)


def test_pairing_by_seed_tells_rows_apart_that_vary_together():
    base = {0: 0.10, 1: 0.50, 2: 0.90}
    better = {seed: value + 0.01 + 0.001 * seed for seed, value in base.items()}
    apart = ranks([base, better])
    unpaired = ranks([base, {seed + 10: value for seed, value in better.items()}])
    assert [rank and (rank.low, rank.tied) for rank in apart] == [(2, False), (1, False)]
    assert [rank and (rank.low, rank.high, rank.tied) for rank in unpaired] == [(1, 2, True)] * 2


def test_rows_with_one_seed_have_no_rank_and_take_none():
    found = ranks([{0: 0.9}, {0: 0.5, 1: 0.5}, {0: 0.1, 1: 0.1}])
    assert found[0] is None
    assert [rank and (rank.low, rank.high) for rank in found[1:]] == [(1, 1), (2, 2)]
