"""Faults around a worker are neither its death nor the failure of what it carries out."""

import errno
import os
from pathlib import Path

import pytest

from clgym.engines.process import ProcessChannel
from clgym.errors import GymFailed, OutOfTime, StrategyFailed


@pytest.fixture(autouse=True)
def _found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", f"{here}:{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), TimeoutError()])
def test_an_error_of_the_gyms_own_work_on_an_event_goes_through(error: OSError) -> None:
    def on_event(event: object) -> None:
        raise error

    channel = ProcessChannel("targets:Echo")
    try:
        with pytest.raises(OSError) as found:
            channel.ask({"do": "echo", "device": "cpu"}, on_event)
    finally:
        channel.close()
    assert found.value is error


def test_a_worker_that_does_not_answer_is_out_of_time() -> None:
    channel = ProcessChannel("targets:Echo", seconds=0.2)
    try:
        with pytest.raises(OutOfTime, match=r"within 0\.2 s") as found:
            channel.ask({"do": "busy", "seconds": 600, "device": "cpu"}, lambda event: None)
    finally:
        channel.close()
    assert isinstance(found.value, StrategyFailed)


def test_a_folder_that_a_worker_cannot_enter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "unmounted")
    with pytest.raises(GymFailed, match=r"No such file or directory at .*unmounted"):
        ProcessChannel("targets:Echo")


def test_a_system_without_room_for_a_process_fails_one_worker_and_no_other() -> None:
    with pytest.raises(GymFailed, match="a process for the learner"):
        ProcessChannel("targets:Crowded")
    channel = ProcessChannel("targets:Crowded")
    try:
        reply = channel.ask({"do": "echo", "value": 3, "device": "cpu"}, lambda event: None)
    finally:
        channel.close()
    assert reply["value"] == 3
