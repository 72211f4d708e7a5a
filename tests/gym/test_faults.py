"""A fault of the machine in the gym's own work: named as such, and no number follows from it."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from clgym.errors import (
    BadAnswer,
    BadOutput,
    ClgymError,
    GymFailed,
    OutOfMemory,
    OutOfTime,
    StrategyFailed,
    WorkerDied,
)
from clgym.gym import withheld_order
from clgym.gym.conduct import Repetition, compared
from clgym.gym.request import Request
from clgym.gym.run import run


@pytest.mark.parametrize(
    ("number", "named"),
    [(errno.EIO, BadOutput), (errno.EBUSY, BadOutput), (errno.EPERM, BadAnswer)],
)
def test_handed_over_images_that_cannot_be_deleted(
    number: int, named: type[ClgymError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only changed files are the strategy's doing."""

    def refused(file: int, length: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "ftruncate", refused)
    request = Request("nmc", "split-digits", None, {}, {}, out=tmp_path / "run", engine="inline")
    with pytest.raises(named, match="images of an experience to be deleted"):
        run(request)


def _raised(kind: type[ClgymError]) -> ClgymError:
    return kind(expected="an answer", found="none", fix="Nothing")


@pytest.mark.parametrize("kind", [WorkerDied, OutOfMemory, OutOfTime, GymFailed])
def test_a_second_prediction_that_the_machine_prevents_says_nothing_of_the_strategy(
    kind: type[ClgymError],
) -> None:
    def ask() -> np.ndarray:
        raise _raised(kind)

    with pytest.raises(kind):
        compared(np.zeros((3, 2), np.float32), ask, "cpu")


@pytest.mark.parametrize("kind", [StrategyFailed, BadAnswer])
def test_a_strategy_that_cannot_predict_twice_depends_on_what_it_predicted(
    kind: type[ClgymError],
) -> None:
    def ask() -> np.ndarray:
        raise _raised(kind)

    found = compared(np.zeros((3, 2), np.float32), ask, "cpu")
    assert found == Repetition(3, 3, "earlier predictions")


@pytest.mark.parametrize("length", [0, 31])
def test_a_damaged_secret_keys_no_order(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one, which a crash may leave, would be known to every strategy."""
    monkeypatch.setenv("CLGYM_STATE", str(tmp_path))
    withheld_order._secret()
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "secret").write_bytes(bytes(length))
    with pytest.raises(BadOutput, match=f"{length} bytes"):
        withheld_order._secret()
