"""Metrics against hand-made matrices and direct formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.results import metrics

HAND = [[0.9, None, None], [0.5, 0.8, None], [0.6, 0.4, 1.0]]


def test_hand_made_matrix() -> None:
    assert metrics.forgetting(HAND) == pytest.approx(((0.9 - 0.6) + (0.8 - 0.4)) / 2)
    assert metrics.backward_transfer(HAND) == pytest.approx(((0.6 - 0.9) + (0.4 - 0.8)) / 2)
    assert metrics.forward_transfer(HAND, [1.0, 0.5, 1 / 3]) is None


def test_forward_transfer_counts_only_what_was_measured_beforehand() -> None:
    full = [[0.9, 0.3, None], [0.5, 0.8, 0.7], [0.6, 0.4, 1.0]]
    assert metrics.forward_transfer(full, [0.1, 0.1, 0.1]) == pytest.approx((0.2 + 0.6) / 2)


def test_one_experience_has_no_transfer() -> None:
    assert metrics.forgetting([[0.5]]) is None
    assert metrics.backward_transfer([[0.5]]) is None
    assert metrics.forward_transfer([[0.5]], [0.5]) is None


def test_an_experience_without_test_rows_is_left_out() -> None:
    matrix = [[0.9, None, None], [0.5, None, None], [0.6, None, 1.0]]
    assert metrics.forgetting(matrix) == pytest.approx(0.3)
    assert metrics.backward_transfer(matrix) == pytest.approx(-0.3)


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=n, max_size=n
        )
    )
)
def test_forgetting_is_at_least_minus_backward_transfer(matrix: list[list[float]]) -> None:
    lower = [[v if j <= i else None for j, v in enumerate(row)] for i, row in enumerate(matrix)]
    drop, back = metrics.forgetting(lower), metrics.backward_transfer(lower)
    assert drop is not None and back is not None
    assert -1 <= drop <= 1
    assert drop >= -back - 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_average_is_the_mean(values: list[float]) -> None:
    assert metrics.average_incremental_accuracy(values) == pytest.approx(sum(values) / len(values))
    assert np.isfinite(metrics.average_incremental_accuracy(values))


def test_four_experiences_by_direct_formulas() -> None:
    full = [[0.9, 0.2, 0.3, 0.1], [0.5, 0.8, 0.4, 0.2], [0.7, 0.6, 1.0, 0.6], [0.6, 0.5, 0.9, 0.7]]
    chance = [1.0, 0.5, 0.25, 0.125]
    assert metrics.forgetting(full) == pytest.approx((0.3 + 0.3 + 0.1) / 3)
    assert metrics.backward_transfer(full) == pytest.approx((-0.3 - 0.3 - 0.1) / 3)
    gains = (0.2 - 0.5, 0.4 - 0.25, 0.6 - 0.125)
    assert metrics.forward_transfer(full, chance) == pytest.approx(sum(gains) / 3)


def test_the_summary_takes_the_accuracy_after_the_last_experience() -> None:
    after = [0.9, 0.65, 0.55]
    summary = metrics.matrix_summary(HAND, after, [1.0, 0.5, 1 / 3])
    assert summary["last_accuracy"] == 0.55
    assert summary["average_incremental_accuracy"] == pytest.approx(0.7)
    assert summary["forgetting"] == metrics.forgetting(HAND)
    assert summary["backward_transfer"] == metrics.backward_transfer(HAND)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1)), min_size=1, max_size=6),
)
def test_area_counts_every_image_once(measured: list[tuple[int, float]]) -> None:
    """Image by image: each counts with the accuracy of the next measurement."""
    images = np.cumsum([distance for distance, _ in measured]).tolist()
    by_image = [accuracy for distance, accuracy in measured for _ in range(distance)]
    area = metrics.area_under_curve(images, [accuracy for _, accuracy in measured])
    assert area == pytest.approx(sum(by_image) / len(by_image))
