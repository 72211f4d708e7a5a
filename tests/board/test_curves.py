"""The numbers behind the figures, against counting and enumeration."""

import itertools

import numpy as np
import pytest

from clgym.board.figures.curves import expected_best, pareto, profile, shortfalls, windows


@pytest.mark.parametrize("scores", [[0.3], [0.2, 0.9], [0.5, 0.1, 0.1, 0.8], [0.4, None, 0.6]])
def test_expected_best_is_the_mean_over_every_possible_draw(scores):
    values = [0.0 if score is None else score for score in scores]
    for n, found in enumerate(expected_best(scores), 1):
        draws = itertools.product(values, repeat=n)
        assert found == pytest.approx(np.mean([max(draw) for draw in draws]), abs=1e-12)
    assert len(expected_best(scores)) == len(scores)


def test_the_front_holds_what_no_point_beats():
    points = [(float(c), float(v)) for c, v in np.random.default_rng(0).integers(0, 6, (40, 2))]

    def beaten(i):
        cost, value = points[i]
        return any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)

    front = pareto(points)
    assert set(front) == {i for i in range(len(points)) if not beaten(i)}
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_a_profile_counts_settings_within_a_factor_of_the_best():
    table = {
        "a": {"x": 0.9, "y": 0.5, "z": 0.8},
        "b": {"x": 0.8, "y": 0.6, "z": 0.8},
        "c": {"x": 0.7, "y": 0.2, "z": 1.0},
    }
    best = {"x": 0.95, "y": 0.6, "z": 1.0}  # in x by one that is not drawn
    ratios = shortfalls(table, best)
    at = np.array([1.0, 1.25, 2.0, 3.0, 1e9])
    for name, row in table.items():
        for factor, share in zip(at, profile(ratios[name], at), strict=True):
            # Multiplied out, so that a best accuracy of 1 divides nothing by 0.
            count = sum(1 - row[s] <= factor * (1 - best[s]) + 1e-12 for s in best)
            assert share == pytest.approx(count / 3), (name, factor)
    assert ratios["a"][0] == 2.0


def test_windows_average_what_lies_in_them():
    middles, means = windows([True, False, True, True, False], 2)
    assert means.tolist() == [0.5, 1.0, 0.0]
    assert middles.tolist() == [0.2, 0.6, 0.9]
