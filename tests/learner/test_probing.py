"""Tests inside an experience, with a gym that only deletes the state that it was given."""

from pathlib import Path

import pytest

from clgym.learner.probing import Prober
from clgym.messages import AnytimeTest


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def prober(state: Path, asked: list[int]) -> Prober:
    """A prober whose gym answers each test at once."""

    def answer(images: int) -> None:
        assert state.read_text() == "weights"
        asked.append(images)
        state.unlink()

    test = AnytimeTest(at=(10, 20, 30), state=state)
    return Prober(test, write=lambda: state.write_text("weights"), tell=answer)


def test_a_test_is_made_at_the_first_safe_point_after_it_is_due(state: Path) -> None:
    """One test where a safe point passes two moments; none at the end, which the gym tests."""
    asked: list[int] = []
    tests = prober(state, asked)
    for images in (4, 9, 12, 15, 28, 30):
        tests.visit(images)
    assert asked == [12, 28]
    assert tests.seconds > 0


def test_a_test_is_not_repeated_when_training_is_continued(state: Path) -> None:
    asked: list[int] = []
    tests = prober(state, asked)
    tests.visit(12)
    again = prober(state, asked)
    again.load_state_dict(tests.state_dict())
    for images in (12, 15, 21):
        again.visit(images)
    assert asked == [12, 21]


def test_streams_without_such_tests_have_none() -> None:
    def never(*_: object) -> None:
        raise AssertionError

    Prober(None, never, never).visit(10)
