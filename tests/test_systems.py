"""What works where Python lacks what only POSIX systems have, and what is refused by name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clgym import files
from clgym.engines import open_channel
from clgym.errors import BadConfig

WITHOUT_POSIX = """
import os, signal, socket, sys
import platformdirs.unix  # still chosen here; older releases import os.getuid at once
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "readline"):
    sys.modules[name] = None  # an import of it fails
for owner, names in (
    (os, "fork forkpty killpg setsid sched_getaffinity register_at_fork getuid"),
    (signal, "SIGKILL SIGCHLD SIGHUP setitimer"),
    (socket, "send_fds recv_fds AF_UNIX"),
):
    for name in names.split():
        if hasattr(owner, name):
            delattr(owner, name)
import clgym
assert clgym.__version__
from clgym.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_posix(*line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_POSIX, *line]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("line", ["list", "list sources --json", "show cifar100", "run --help"])
def test_looking_needs_no_posix(line: str) -> None:
    done = without_posix(*line.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path))  # where no learner ever was, none has answered
    done = without_posix("run", "nmc", "split-digits", "--dry-run")
    assert done.returncode == 2
    assert "a POSIX system" in done.stderr and "--engine inline" in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_is_sent_a_signal_on_other_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There `os.kill` with signal 0 is Ctrl-C: what a dead writer left goes by its age."""
    part = tmp_path / files.part_name("x")
    part.write_bytes(b"")
    sent = []
    monkeypatch.setattr(files.os, "kill", lambda *call: sent.append(call))
    monkeypatch.setattr(files.os, "name", "nt")
    left = files._is_left(part)
    monkeypatch.undo()
    assert (left, sent) == (False, [])


def test_a_worker_is_refused_where_nothing_can_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(BadConfig, match=f"found {sys.platform}"):
        open_channel("process", "clgym.learner.entrance:Learner")
