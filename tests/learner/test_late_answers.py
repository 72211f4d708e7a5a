"""Answers are read from the device once for many batches, and errors still name the batch."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from clgym.errors import BadAnswer
from clgym.learner import late_answers
from clgym.learner.late_answers import LateAnswers
from clgym.learner.replies import check_order, checked_logits
from clgym.learner.representing import batches_of, features_in_batches

NAN = float("nan")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What is read, where tensors of the CPU are taken for those of a GPU."""
    read: list[torch.Tensor] = []
    cpu = torch.Tensor.cpu

    def noted(self: torch.Tensor) -> torch.Tensor:
        read.append(self)
        return cpu(self)

    monkeypatch.setattr(torch.Tensor, "cpu", noted)
    monkeypatch.setattr(late_answers, "_is_read_at_once", lambda answer: False)
    return read


def table() -> LateAnswers:
    return LateAnswers(6, 2, partial(check_order, "predict"))


def test_many_batches_are_one_read(reads: list[torch.Tensor]) -> None:
    answers, buffer = table(), torch.zeros(2, 2)
    for start in range(0, 6, 2):
        buffer.copy_(torch.arange(4).view(2, 2) + 10 * start)  # a strategy uses it again
        answers.put(slice(start, start + 2), buffer)
    assert not reads
    expected = [[0, 1], [2, 3], [20, 21], [22, 23], [40, 41], [42, 43]]
    np.testing.assert_array_equal(answers.read(), np.array(expected, np.float32))
    np.testing.assert_array_equal(answers.read(), np.array(expected, np.float32))
    assert len(reads) == 1


def test_the_first_wrong_batch_is_named(reads: list[torch.Tensor]) -> None:
    answers = table()
    for start, value in ((0, 1.0), (2, NAN), (4, NAN)):
        answers.put(slice(start, start + 2), torch.full((2, 2), value))
    with pytest.raises(BadAnswer, match=r"from predict; found NaN \(rows 3 to 4 of 6\)"):
        answers.read()


def test_on_a_processor_a_wrong_answer_is_refused_at_once() -> None:
    with pytest.raises(BadAnswer, match=r"rows 3 to 4 of 6"):
        table().put(slice(2, 4), torch.full((2, 2), NAN))


def test_features_are_one_read(reads: list[torch.Tensor]) -> None:
    rows = torch.arange(10.0).view(5, 2)
    parts = batches_of(5, 2)
    found = features_in_batches(parts, (rows[part] for part in parts), lambda done: None)
    np.testing.assert_array_equal(found, rows.numpy())
    assert len(reads) == 1
    rows[3, 1] = NAN
    with pytest.raises(BadAnswer, match=r"rows 3 to 4 of 5"):
        features_in_batches(parts, (rows[part] for part in parts), lambda done: None)


def test_an_adapted_batch_is_one_read_and_named(reads: list[torch.Tensor]) -> None:
    answer: Any = torch.ones(2, 2)
    checked_logits(answer, "adapt", 2, 2, "batch 7")
    assert len(reads) == 1
    answer[1, 0] = NAN
    with pytest.raises(BadAnswer, match=r"from adapt; found NaN \(batch 7\)"):
        checked_logits(answer, "adapt", 2, 2, "batch 7")
