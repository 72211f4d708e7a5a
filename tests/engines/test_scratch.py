"""Folders for temporary files: made for each worker, and deleted after their process has ended."""

import subprocess
import sys
import tempfile
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
