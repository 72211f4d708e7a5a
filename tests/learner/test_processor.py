"""Processor time by a clock that is set by hand, and names of devices."""

import platform
import time
from pathlib import Path

import pytest
import torch

from clgym.learner import processor
from clgym.learner.processor import ProcessorTime, name_of_device


class Clock:
    """Processor seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "process_time", found)
    return found


def test_it_counts_inside_only(clock: Clock) -> None:
    spent = ProcessorTime()
    clock.now = 5
    with spent.running():
        clock.now = 7
        with spent.standing():  # the gym works in the same process
            clock.now = 100
        clock.now = 101
        assert spent.take() == 3
        clock.now = 102
    clock.now = 500
    assert spent.take() == 1
    assert spent.take() == 0


def test_an_event_outside_of_a_request_does_not_start_it(clock: Clock) -> None:
    spent = ProcessorTime()
    with spent.standing():
        clock.now = 3
    clock.now = 9
    assert spent.take() == 0


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux has such a file")
def test_a_processor_has_the_name_that_linux_gives_it() -> None:
    name = name_of_device(torch.device("cpu"))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].split() for line in lines if line.startswith("model name")]
    assert not models or name == " ".join(models[0])


def test_elsewhere_a_processor_has_the_name_that_python_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: " Apple  M4 ")
    monkeypatch.setattr(processor, "_processor_name", processor._processor_name.__wrapped__)
    assert name_of_device(torch.device("cpu")) == "Apple M4"
    assert name_of_device(torch.device("meta")) == ""
