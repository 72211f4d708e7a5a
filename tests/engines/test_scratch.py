"""Folders for temporary files: made for each worker, and deleted after their process has ended."""

import fcntl
import multiprocessing
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from clgym.engines import scratch
from clgym.engines.scratch import Scratch

LEAVES = """
import os
from clgym.engines.scratch import Scratch
print(Scratch().folder, flush=True)
os._exit(1)
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    scratch._clear_left.cache_clear()


def test_folders_of_ended_processes_are_deleted_and_others_stay(tmp_path: Path) -> None:
    used = Scratch()
    words = [sys.executable, "-c", LEAVES]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    left, foreign = Path(done.stdout.strip()), tmp_path / "clgym-notes"
    foreign.mkdir()
    assert left.is_dir() and left.parent == tmp_path
    scratch._clear_left.cache_clear()
    made = Scratch()
    assert not left.exists() and used.folder.is_dir() and foreign.is_dir()
    made.close()
    assert not made.folder.exists()
    used.close()


def test_each_worker_gets_its_own() -> None:
    assert Scratch().folder != Scratch().folder


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_new_folder_that_another_process_takes_for_a_left_one_is_made_again(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four workers that start at once were seen to delete each other's folders."""
    make, lock, made = tempfile.mkdtemp, fcntl.flock, []

    def mkdtemp(prefix: str) -> str:
        made.append(Path(make(prefix=prefix)))
        if moment == "before it is opened" and len(made) == 1:
            made[0].rmdir()
        return str(made[-1])

    def flock(descriptor: int, how: int) -> None:
        if moment == "before it is locked" and len(made) == 1:
            made[0].rmdir()
        lock(descriptor, how)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(fcntl, "flock", flock)
    folder = Scratch()
    assert len(made) == 2 and folder.folder == made[1].resolve() and folder.folder.is_dir()


def test_processes_that_start_at_once_keep_their_folders(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
        assert all(pool.map(_keeps_its_folder, range(200)))


def _keeps_its_folder(_: int) -> bool:
    scratch._clear_left.cache_clear()
    made = Scratch()
    kept = made.folder.is_dir()
    made.close()
    return kept
