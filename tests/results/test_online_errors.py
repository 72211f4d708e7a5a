"""Online scores against numbers worked out by hand and against plain loops."""

import numpy as np
import pytest

from clgym.results.online_errors import (
    calibration_error,
    confidence,
    largest_class,
    recovery,
    scores,
)


def test_confidence_is_the_largest_softmax_value():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(confidence(logits), [0.75, 1.0], rtol=1e-6)


def test_calibration_error_against_a_loop_over_bins():
    generator = np.random.default_rng(0)
    sure = generator.random(500).astype(np.float32)
    hits = generator.random(500) < 0.6
    expected = 0.0
    for low in np.arange(15) / 15:
        here = (sure > low) & (sure <= low + 1 / 15)
        if here.any():
            expected += here.mean() * abs(hits[here].mean() - sure[here].mean())
    assert calibration_error(sure, hits) == pytest.approx(expected, abs=1e-6)


def test_a_collapsed_method_is_told_apart_from_a_sorted_stream():
    labels = np.repeat([0, 1], 50)
    assert largest_class(np.zeros(100, int), labels, 2) == pytest.approx(0.5)
    assert largest_class(np.zeros(100, int), np.zeros(100, int), 2) == 0


def test_recovery_is_what_the_beginning_costs():
    hits = np.r_[np.zeros(20, bool), np.ones(80, bool)]
    assert recovery(hits) == pytest.approx(1.0)
    assert recovery(~hits) == pytest.approx(-1.0)


def test_the_mean_over_segments_is_unweighted_and_the_pooled_error_is_not():
    labels = [np.array([0, 0]), np.array([1, 1, 1, 1])]
    predicted = [np.array([0, 1]), np.array([1, 1, 1, 1])]
    made = scores(
        ["a", "b"],
        [np.zeros(2, int), np.ones(4, int)],
        ["x", "y"],
        labels,
        predicted,
        [np.ones(2), np.ones(4)],
        ["zero", "one", "never"],
    )
    assert made["mean_error"] == pytest.approx(0.25)
    assert made["pooled_error"] == pytest.approx(1 / 6)
    assert made["domains"] == {"x": 0.5, "y": 0.0}
    assert made["per_class"] == {"zero": 0.5, "one": 0.0, "never": None}


def test_a_mixed_segment_is_averaged_over_its_domains():
    made = scores(
        ["mixed"],
        [np.array([0, 1, 1, 1])],
        ["x", "y"],
        [np.zeros(4, int)],
        [np.array([1, 0, 0, 0])],
        [np.ones(4)],
        ["zero", "one"],
    )
    assert made["mean_error"] == pytest.approx(0.5)
    assert made["pooled_error"] == pytest.approx(0.25)
