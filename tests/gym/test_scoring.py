"""Scores against loops over single rows."""

from pathlib import Path

import numpy as np
import pytest

from clgym.data.sources import Source, Split
from clgym.gym.scoring import (
    Predictions,
    TestPool,
    chance_levels,
    own_columns,
    pool_after,
    predictions_of,
    score,
)
from clgym.scenario import Setting, Step, Stream

COLUMNS = (3, 0, 4, 1, 2)
"""Index of each class of the source, by its number."""
CLASSES = ((0, 1), (2, 3), (4,))
"""Class indices of three experiences."""


def _split(labels: np.ndarray) -> Split:
    images = np.zeros((len(labels), 2, 2, 1), dtype=np.uint8)
    return Split(images, labels, np.zeros((len(labels), 32), np.uint8), Path("none.npy"))


@pytest.fixture
def source() -> Source:
    """Five classes; six training and four test images of each, mixed."""
    mix = np.random.default_rng(0).permutation
    train, test = (_split(mix(np.repeat(np.arange(5), n))) for n in (6, 4))
    names = tuple("abcde")
    return Source("made", names, train, test, 255, (), (), "f", (), "none")


def _stream(source: Source, setting: Setting, **facts: object) -> Stream:
    steps = []
    for number, classes in enumerate(CLASSES):
        if setting == "domain-incremental":
            classes, here = (0, 1, 2, 3, 4), np.arange(20) % 3 == number
        else:
            here = np.isin(np.array(COLUMNS)[source.test.labels], classes)
        steps.append(Step(np.arange(3), np.flatnonzero(here), classes, np.arange(0)))
    facts = {"compete": "own", **facts}
    names = tuple(source.classes[COLUMNS.index(c)] for c in range(5))
    shape = (1, 2, 2)
    return Stream("s", setting, ("made",), ("f",), shape, (COLUMNS,), tuple(steps), names, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", ["class-incremental", "task-incremental", "domain-incremental"])
def test_the_pool_holds_the_rows_that_are_measured(source: Source, setting: Setting) -> None:
    stream = _stream(source, setting)
    for index in range(3):
        pool = pool_after(stream, [source], index)
        until = 3 if setting == "domain-incremental" else index + 1
        wanted = [
            (j, row, COLUMNS[source.test.labels[row]])
            for j in range(until)
            for row in stream.steps[j].test
        ]
        assert list(zip(pool.step, pool.row, pool.label, strict=True)) == wanted


def test_held_out_training_rows_take_their_labels_from_the_training_split(source: Source) -> None:
    step = Step(np.arange(3), np.array([7, 4]), (0, 1), np.arange(0), measured_on="train")
    whole = _stream(source, "class-incremental")
    stream = Stream(**{**vars(whole), "steps": (step,)})
    pool = pool_after(stream, [source], 0)
    assert pool.label.tolist() == [COLUMNS[source.train.labels[row]] for row in (7, 4)]


@pytest.mark.parametrize(
    ("setting", "compete", "own"),
    [
        ("class-incremental", "own", False),
        ("task-incremental", "own", True),
        ("task-incremental", "seen", False),
        ("domain-incremental", "own", False),
    ],
)
def test_predictions_are_the_largest_logit_of_the_classes_that_compete(
    source: Source, setting: Setting, compete: str, own: bool
) -> None:
    stream = _stream(source, setting, compete=compete)
    domains = setting == "domain-incremental"
    for index, width in enumerate((5, 5, 5) if domains else (2, 4, 5)):
        pool = pool_after(stream, [source], index)
        logits = np.random.default_rng(index).normal(size=(len(pool.row), width))
        answers = predictions_of(stream, pool, logits)
        for place, step in enumerate(pool.step):
            competing = range(5) if domains else CLASSES[step]
            aware = max(competing, key=lambda c: logits[place, c])
            assert answers.task_aware[place] == aware
            pooled = max(range(width), key=lambda c: logits[place, c])
            assert answers.predicted[place] == (aware if own else pooled)


def test_classes_that_have_no_column_yet_do_not_compete(source: Source) -> None:
    whole = _stream(source, "class-incremental")
    steps = (Step(np.arange(3), np.array([0]), (0, 1, 2, 3), np.arange(0)), *whole.steps[1:])
    stream = Stream(**{**vars(whole), "steps": steps})
    pool = TestPool(np.array([0]), np.array([0]), np.array([2]))
    assert predictions_of(stream, pool, np.array([[1.0, 3.0]])).task_aware.tolist() == [1]


@pytest.mark.parametrize("setting", ["class-incremental", "task-incremental", "domain-incremental"])
def test_scores_count_hits_row_by_row(source: Source, setting: Setting) -> None:
    stream = _stream(source, setting)
    draws = np.random.default_rng(1)
    for index in range(3):
        pool = pool_after(stream, [source], index)
        answers = Predictions(*(draws.integers(0, 5, len(pool.row)) for _ in range(2)))
        found = score(stream, index, pool, answers)
        rows: list[list[tuple[bool, bool]]] = [[], [], []]
        for place, step in enumerate(pool.step):
            given = answers.predicted[place], answers.task_aware[place]
            rows[step].append((given[0] == pool.label[place], given[1] == pool.label[place]))
        shares = [_shares(own) for own in rows]
        assert found.row == [None if own is None else pytest.approx(own[0]) for own in shares]
        seen = [own for own in shares[: index + 1] if own is not None]
        accuracy = np.mean([own[0] for own in seen])
        if setting == "class-incremental":  # every row counts alike, whatever its experience
            accuracy = np.mean([hit[0] for own in rows for hit in own])
        assert found.accuracy == pytest.approx(accuracy)
        assert found.task_aware == pytest.approx(np.mean([own[1] for own in seen]))


def _shares(hits: list[tuple[bool, bool]]) -> tuple[float, float] | None:
    if not hits:
        return None
    return sum(hit[0] for hit in hits) / len(hits), sum(hit[1] for hit in hits) / len(hits)


def test_rows_of_experiences_to_come_count_in_none_of_the_averages(source: Source) -> None:
    stream = _stream(source, "class-incremental")
    pool = TestPool(np.array([0, 0, 1]), np.array([0, 1, 2]), np.array([0, 1, 2]))
    found = score(stream, 0, pool, Predictions(np.array([0, 0, 2]), np.array([0, 1, 0])))
    assert (found.row, found.accuracy, found.task_aware) == ([0.5, 1.0, None], 0.5, 1.0)


def test_an_experience_without_rows_has_no_score(source: Source) -> None:
    stream = _stream(source, "task-incremental")
    pool = TestPool(np.array([1, 1]), np.array([0, 1]), np.array([2, 3]))
    found = score(stream, 1, pool, Predictions(np.array([2, 2]), np.array([2, 3])))
    assert (found.row, found.accuracy, found.task_aware) == ([None, 0.5, None], 0.5, 1.0)


def test_chance_is_one_of_the_classes_that_compete(source: Source) -> None:
    levels = {
        ("class-incremental", "own"): [1 / 2, 1 / 4, 1 / 5],
        ("task-incremental", "own"): [1 / 2, 1 / 2, 1],
        ("task-incremental", "seen"): [1 / 2, 1 / 4, 1 / 5],
        ("domain-incremental", "own"): [1 / 5, 1 / 5, 1 / 5],
    }
    for (setting, compete), wanted in levels.items():
        stream = _stream(source, setting, compete=compete)  # type: ignore[arg-type]
        assert chance_levels(stream) == pytest.approx(wanted)


def test_the_home_of_a_blurry_experience_competes(source: Source) -> None:
    whole = _stream(source, "class-incremental")
    steps = (Step(np.arange(3), np.array([0]), (0, 1, 2), np.arange(0), home=(1, 2)),)
    stream = Stream(**{**vars(whole), "steps": steps})
    assert own_columns(stream, 0).tolist() == [1, 2]
    assert own_columns(whole, 1).tolist() == [2, 3]


def test_all_classes_of_all_domains_compete(source: Source) -> None:
    whole = _stream(source, "domain-incremental")
    growing = ((0, 1), (0, 1, 2), (0, 1, 2, 3, 4), (0, 1))
    steps = tuple(Step(np.arange(3), np.array([0]), c, np.arange(0)) for c in growing)
    stream = Stream(**{**vars(whole), "steps": steps})
    assert [own_columns(stream, j).tolist() for j in range(4)] == [[0, 1, 2, 3, 4]] * 4
