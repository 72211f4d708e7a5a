"""A fault of the machine or of clgym is no failure of the strategy, which a study would count."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clgym.data.npy import mapped
from clgym.engines.answer import answer, error_in
from clgym.errors import GymFailed, OutOfMemory, StrategyFailed
from clgym.learner.blame import blamed
from clgym.learner.entrance import Learner

HERE = Path(__file__)


def raised(action: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as found:
        action()
    return found.value


def fails_with(number: int) -> Callable[[], object]:
    def fails() -> None:
        raise OSError(number, os.strerror(number))

    return fails


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO", "ENFILE", "ESTALE", "ENOMEM"])
def test_a_fault_of_the_machine_wherever_it_is_raised(name: str) -> None:
    assert blamed(raised(fails_with(getattr(errno, name))), HERE) is GymFailed


def test_a_file_that_the_strategy_cannot_open_is_its_failure(tmp_path: Path) -> None:
    def opens() -> None:
        (tmp_path / "missing").open()

    for number in (errno.EACCES, errno.EMFILE, errno.ENOENT):
        assert blamed(raised(fails_with(number)), HERE) is StrategyFailed
    assert blamed(raised(opens), None) is StrategyFailed
    assert blamed(raised(opens), HERE) is StrategyFailed


def test_a_file_that_clgym_itself_cannot_open_is_not(tmp_path: Path) -> None:
    error = raised(lambda: mapped(tmp_path / "missing.npy"))
    assert blamed(error, None) is GymFailed
    assert blamed(error, HERE) is GymFailed


def test_other_errors_are_the_strategys_even_if_clgym_raises_them(tmp_path: Path) -> None:
    """A wrong argument of a strategy is found by the code that it calls."""
    (tmp_path / "empty.npy").touch()
    assert blamed(raised(lambda: mapped(tmp_path / "empty.npy")), HERE) is StrategyFailed


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("all gone"),
        torch.OutOfMemoryError("all gone"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: all gone"),
    ],
)
def test_too_little_memory_is_the_runs_failure_and_says_what_helps(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(Learner, "handle", fails)
    found = error_in(answer(Learner(lambda event: None), {"do": "train"}))
    assert type(found) is OutOfMemory and isinstance(found, StrategyFailed)
    assert "all gone" in found.found and "--workers-per-device" in found.fix


@pytest.mark.parametrize("do", ["fill-features", "fill-classifiers"])
def test_a_process_without_a_plugin_has_no_strategy_to_blame(
    do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a network that cannot be run")

    monkeypatch.setattr(Learner, "handle", fails)
    assert type(error_in(answer(Learner(lambda event: None), {"do": do}))) is GymFailed
    assert type(error_in(answer(Learner(lambda event: None), {"do": "train"}))) is StrategyFailed
