"""Features of a strategy, put together from batches, and checked."""

from typing import Any

import numpy as np
import pytest
import torch

from clgym.errors import BadAnswer
from clgym.learner.representing import batches_of, features_in_batches


def together(*answers: Any) -> np.ndarray:
    """Features of five images in batches of two."""
    return features_in_batches(batches_of(5, 2), iter(answers), lambda done: None)


def test_features_come_in_the_order_of_the_images() -> None:
    wanted = torch.arange(15.0).reshape(5, 3)
    found = together(wanted[:2], wanted[2:4].double(), wanted[4:])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.zeros(2, 4), r"\(2, 3\) from represent; found \(2, 4\)"),
        (torch.zeros(3, 3), r"found \(3, 3\)"),
        (torch.zeros(2, 3, 1), r"found \(2, 3, 1\)"),
        (torch.zeros(2, 3, dtype=torch.complex64), r"found \(2, 3\)"),
        (np.zeros((2, 3)), "found a ndarray"),
        (None, "found a NoneType"),
    ],
)
def test_features_of_another_form_are_refused(answer: Any, words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        together(torch.zeros(2, 3), answer, torch.zeros(1, 3))


def test_features_without_numbers_are_refused() -> None:
    with pytest.raises(BadAnswer, match=r"\(2, width\).*found \(2, 0\)"):
        together(torch.zeros(2, 0), torch.zeros(2, 0), torch.zeros(1, 0))
