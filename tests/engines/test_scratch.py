"""Folders for temporary files: made for each worker, and deleted after their process has ended."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clgym.engines import scratch
from clgym.files import host_name


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._clear_left.cache_clear()


def test_folders_of_ended_processes_are_deleted_and_others_stay(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    host = host_name()
    left = tmp_path / f"clgym-{host}-{ended}-abc"
    others = [
        tmp_path / f"clgym-{host}-{os.getppid()}-abc",  # of a process that lives
        tmp_path / f"clgym-{host}2-{ended}-abc",  # of another machine
        tmp_path / "clgym-notes",
    ]
    for folder in (left, *others):
        folder.mkdir()
        (folder / "file").write_text("x")
    made = scratch.make_scratch()
    assert made.is_dir() and not any(made.iterdir())
    assert not left.exists() and all(folder.is_dir() for folder in others)


def test_each_worker_gets_its_own() -> None:
    assert scratch.make_scratch() != scratch.make_scratch()
