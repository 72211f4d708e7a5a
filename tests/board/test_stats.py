"""Intervals against enumeration, ranks against SciPy's tests."""

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from clgym.board.stats import MOST_LETTERED, interval, letters, ranks


def test_an_interval_has_the_quantiles_of_all_resamples():
    values = [0.2, 0.45, 0.5, 0.7, 0.9]
    means = [np.mean(drawn) for drawn in itertools.product(values, repeat=5)]
    low, high = np.quantile(means, [0.025, 0.975])
    found = interval([values])
    assert found is not None
    assert found == pytest.approx((low, high), abs=0.015)


def test_bootstrap_strata_are_resampled_independently():
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
    for i, j in itertools.combinations(range(len(rows)), 2):
        one, other = found[i], found[j]
        assert one is not None and other is not None
        apart = _clearly_better(rows[i], rows[j]) or _clearly_better(rows[j], rows[i])
        assert bool({*one.letters} & {*other.letters}) is not apart


def _cliques(alike: np.ndarray) -> set[frozenset[int]]:
    """Largest sets of rows of which no two are told apart, by trying every set."""
    n = len(alike)
    good = [
        frozenset(rows)
        for size in range(1, n + 1)
        for rows in itertools.combinations(range(n), size)
        if all(alike[i, j] for i, j in itertools.combinations(rows, 2))
    ]
    return {one for one in good if not any(one < other for other in good)}


@pytest.mark.parametrize("draw", range(30))
def test_letters_mark_maximal_groups_without_significant_differences(draw):
    generator = np.random.default_rng(draw)
    n = int(generator.integers(1, 9))
    upper = np.triu(generator.random((n, n)) < generator.random(), 1)
    apart = upper | upper.T
    means = generator.random(n).tolist()
    words = letters(apart, means)
    by_letter = {
        letter: frozenset(i for i, word in enumerate(words) if letter in word)
        for letter in sorted({letter for word in words for letter in word})
    }
    assert set(by_letter.values()) == _cliques(~apart)
    assert "a" in words[int(np.argmax(means))]
    order = np.argsort(np.argsort(-np.array(means)))
    firsts = [min(order[list(rows)]) for rows in by_letter.values()]
    assert firsts == sorted(firsts)  # a letter of a better row comes first


def test_letters_of_overlapping_intervals():
    """Each row is told apart from all but its neighbours: ranks 1-2, 1-3, 2-4, 3-4."""
    places = np.arange(4)
    apart = np.abs(places[:, None] - places) > 1
    assert letters(apart, [0.9, 0.8, 0.7, 0.6]) == ["a", "ab", "bc", "c"]


def test_more_groups_than_letters_still_differ():
    count = 40
    words = letters(~np.eye(count, dtype=bool), [1.0 - i / count for i in range(count)])
    assert len(set(words)) == count and words[0] == "a" and words[26] == "aa"
    assert not any({*one.split()} & {*other.split()} for one, other in itertools.pairwise(words))


def test_a_very_long_table_has_intervals_and_no_ranks():
    rows = [{0: i / 1000, 1: i / 1000 + 0.01} for i in range(MOST_LETTERED + 1)]
    assert {rank.letters for rank in ranks(rows) if rank} == {""}
    assert all(rank and rank.letters for rank in ranks(rows[1:]))


def test_pairing_by_seed_tells_rows_apart_that_vary_together():
    base = {0: 0.10, 1: 0.50, 2: 0.90}
    better = {seed: value + 0.01 + 0.001 * seed for seed, value in base.items()}
    apart = ranks([base, better])
    unpaired = ranks([base, {seed + 10: value for seed, value in better.items()}])
    assert [rank and (rank.low, rank.letters) for rank in apart] == [(2, "b"), (1, "a")]
    assert [rank and (rank.low, rank.high, rank.letters) for rank in unpaired] == [(1, 2, "a")] * 2


def test_rows_with_one_seed_have_no_rank_and_take_none():
    found = ranks([{0: 0.9}, {0: 0.5, 1: 0.5}, {0: 0.1, 1: 0.1}])
    assert found[0] is None
    assert [rank and (rank.low, rank.high) for rank in found[1:]] == [(1, 1), (2, 2)]
