"""Commands as processes: started anew, or forked from a process that has imported their needs."""

import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from typing import IO

__all__ = ["Forked", "prepare_forks", "started_by"]

FORKS: list[bool] = []
"""Filled where commands are forks of this process."""


def prepare_forks() -> None:
    """Import what commands import; nothing of it is used here."""
    for name in ("torch", "clgym.cli.run", "clgym.gym.run", "clgym.learner.entrance"):
        importlib.import_module(name)
    for name in ("clgym.protocol.study", "clgym.protocol.evaluation", "clgym.board.page"):
        importlib.import_module(name)
    FORKS.append(True)


def started_by(
    line: list[str], said: IO[bytes] | None = None
) -> "subprocess.Popen[bytes] | Forked":
    """A command line's process; what it says goes into a file, or nowhere."""
    if FORKS:
        return Forked(line[1:], said)
    where = said or subprocess.DEVNULL
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=where)


class Forked:
    """A command in a fork of this process, under the names of `subprocess.Popen`."""

    def __init__(self, words: list[str], said: IO[bytes] | None) -> None:
        """Start ``-m clgym ...`` or ``-c CODE ...``."""
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                out = said.fileno() if said else os.open(os.devnull, os.O_WRONLY)
                os.dup2(out, 1), os.dup2(out, 2)
                code = _carried_out(words)
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code.

        Raises:
            TimeoutExpired: it runs on.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while ends is not None and os.waitid(os.P_PID, self._pid, WAITED | os.WNOHANG) is None:
            if time.monotonic() >= ends:
                raise subprocess.TimeoutExpired("a command", timeout or 0.0)
            time.sleep(0.002)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def kill(self) -> None:
        """End it at once."""
        os.kill(self._pid, signal.SIGKILL)


WAITED = os.WEXITED | os.WNOWAIT


def _carried_out(words: list[str]) -> int:
    """A command's exit code, in this process."""
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(words[1], {"__name__": "__main__"})
        return 0
    from clgym.cli import main as clgym

    inline = ["--engine", "inline"] if words[2] in ("run", "tune", "evaluate") else []
    return clgym([*words[2:], *inline])
