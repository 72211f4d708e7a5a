"""Scores of many experiences: the same numbers in one pass over the rows."""

from typing import Any, ClassVar

import numpy as np
import pytest

from clgym.api import make_scenario
from clgym.gym.scoring import TestPool, predictions_of, score
from clgym.results.metrics import accuracy_by_group


class Compared(np.ndarray):
    """An array that counts how often all of it is compared."""

    count: ClassVar[int] = 0

    def __eq__(self, other: Any) -> Any:
        Compared.count += 1
        return super().__eq__(other)


@pytest.mark.parametrize("name", ["split-digits", "permuted-digits", "task-digits"])
def test_scores_are_those_of_each_experience_by_itself(name: str) -> None:
    stream = make_scenario(name)
    index, draws = len(stream) - 1, np.random.default_rng(0)
    classes = stream.columns_after(index)
    step = np.repeat(np.arange(len(stream)), draws.integers(1, 40, len(stream)))
    label = np.concatenate(
        [draws.choice(stream.steps[j].classes, (step == j).sum()) for j in range(len(stream))]
    )
    logits = draws.normal(size=(len(step), classes)).astype(np.float32)
    Compared.count = 0
    pool = TestPool(step.view(Compared), np.arange(len(step)), label)
    answers = predictions_of(stream, pool, logits)
    found = score(stream, index, pool, answers)
    assert Compared.count == 0
    for j in range(len(stream)):
        rows = step == j
        own = range(classes)
        if stream.setting != "domain-incremental":
            own = stream.steps[j].classes
        aware = [max(own, key=lambda c, r=r: logits[r, c]) for r in np.flatnonzero(rows)]
        assert answers.task_aware[rows].tolist() == aware
        assert found.row[j] == float((answers.predicted == label)[rows].mean())


def test_accuracies_of_groups_are_exact_means_and_none_without_rows() -> None:
    draws = np.random.default_rng(1)
    group, hits = draws.choice([0, 1, 3], 1000), draws.random(1000) < 0.3
    found = accuracy_by_group(hits, group, 5)
    assert found == [float(hits[group == j].mean()) if j in (0, 1, 3) else None for j in range(5)]
