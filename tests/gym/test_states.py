"""Where the states of a run lie while it goes on."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clgym.errors import BadAnswer
from clgym.gym import session
from clgym.gym.folder import LEARNER, STATES, keep_state, renew_folder, take_state
from clgym.gym.request import Request
from clgym.gym.run import run


class Stopped(Exception):
    """Ends a run in the middle."""


def interrupted(out: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A run that was stopped after two experiences."""
    request = Request("replay", "split-digits", out=out, threads=1)
    written: list[Path] = []
    write = session.write_atomic

    def stop(path: Path, data: bytes) -> None:
        write(path, data)
        written.append(path)
        if [p.name for p in written].count("progress.json") == 2:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(session, "write_atomic", stop)
        with pytest.raises(Stopped):
            run(request)
    return request


def test_a_run_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept its states in the learner's folder."""
    request = interrupted(tmp_path / "part", monkeypatch)
    (tmp_path / "part" / LEARNER).mkdir(exist_ok=True)
    for state in (tmp_path / "part" / STATES).iterdir():
        state.replace(tmp_path / "part" / LEARNER / state.name)
    (tmp_path / "part" / STATES).rmdir()
    record = run(request)
    assert record.cost.resumed == 1
    assert record.result == run(replace(request, out=tmp_path / "whole")).result


def test_what_a_learner_wrote_replaces_no_state_that_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = interrupted(tmp_path / "part", monkeypatch)
    (tmp_path / "part" / LEARNER).mkdir(exist_ok=True)
    (tmp_path / "part" / LEARNER / "state-0-1.safetensors").write_bytes(b"forged")
    assert run(request).result == run(replace(request, out=tmp_path / "whole")).result


def test_no_state_but_the_last_is_within_reach_of_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = interrupted(tmp_path / "part", monkeypatch)
    states = tmp_path / "part" / STATES
    assert sorted(path.name for path in states.iterdir()) == [
        "state-0-0.safetensors",
        "state-0-1.safetensors",
    ]
    seen: list[list[str]] = []
    start = session.Session._start_learner

    def noting(self: Any, number: int) -> Any:
        seen.append([path.name for path in states.iterdir()])
        return start(self, number)

    monkeypatch.setattr(session.Session, "_start_learner", noting)
    run(request)
    assert seen[0] == ["state-0-1.safetensors"] and all(len(names) == 1 for names in seen)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_state_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    written = tmp_path / LEARNER / "state"
    written.parent.mkdir()
    (tmp_path / "secret").write_text("secret")
    written.symlink_to(tmp_path / "secret") if kind == "link" else os.mkfifo(written)
    with pytest.raises(BadAnswer, match="a file with the learner's state"):
        take_state(tmp_path, "state")
    assert not any((tmp_path / STATES).iterdir())


def test_an_empty_folder_takes_the_place_of_what_a_learner_wrote(tmp_path: Path) -> None:
    folder = tmp_path / LEARNER
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "file").write_text("x")
    before = folder.stat().st_ino
    renew_folder(folder)
    assert not any(folder.iterdir()) and folder.stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == [LEARNER]


def test_states_are_deleted_except_one(tmp_path: Path) -> None:
    keep_state(tmp_path, None)  # there is no folder yet
    (tmp_path / STATES).mkdir()
    for name in "abc":
        (tmp_path / STATES / name).write_text(name)
    keep_state(tmp_path, "b")
    assert [path.name for path in (tmp_path / STATES).iterdir()] == ["b"]
