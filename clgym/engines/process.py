"""The learner in a process of its own, which stays warm and serves one run after another.

It is started by command line, not forked and not by multiprocessing: it inherits neither the gym's
memory, where the labels are, nor the caller's main module. Its standard output is the gym's
standard error, so that a plugin that prints does not spoil ``--json``.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

from clgym.engines.answer import raise_error
from clgym.engines.channel import OnEvent
from clgym.engines.wire import receive, send
from clgym.errors import StrategyFailed, WorkerDied

__all__ = ["ProcessChannel", "Worker"]

_idle: dict[str, list["Worker"]] = {}


class Worker:
    """A child process and our end of the socket to it."""

    def __init__(self, target: str) -> None:
        """Start a process in which ``target`` answers."""
        ours, theirs = socket.socketpair()
        # cuBLAS reads this when CUDA starts: without it, deterministic mode refuses to work.
        environment = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clgym.engines.worker", str(theirs.fileno()), target],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,
            env=environment,
        )
        theirs.close()
        self.connection = Connection(ours.detach())

    def stop(self) -> None:
        """Hang up, wait a little for the process to end, else kill it."""
        with contextlib.suppress(OSError):
            self.connection.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def death(self) -> WorkerDied:
        """Put a dead process away and say how it ended."""
        self.stop()
        code = self.process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return WorkerDied(
            expected="the learner's process to live until the run is over",
            found=f"it ended with {how}",
            fix="Give the same command again: it continues from the last checkpoint",
        )


class ProcessChannel:
    """A conversation with a worker; a fresh one is started when none is idle."""

    def __init__(self, target: str) -> None:
        """Take an idle worker of this target, or start one."""
        self._target = target
        idle = [w for w in _idle.pop(target, []) if w.process.poll() is None]
        self._worker = idle.pop() if idle else Worker(target)
        self._spoiled = False
        if idle:
            _idle[target] = idle

    def ask(self, message: dict[str, Any], on_event: OnEvent) -> dict[str, Any]:
        """See `Channel.ask`."""
        self._spoiled = True  # until the answer is here: whoever is interrupted leaves it busy
        try:
            send(self._worker.connection, message)
            while "event" in (reply := receive(self._worker.connection)):
                on_event(reply["event"])
        except (EOFError, OSError) as error:
            raise self._worker.death() from error
        self._spoiled = (reply.get("error") or {}).get("type") == StrategyFailed.__name__
        raise_error(reply, sys.stderr.write)
        return reply

    def close(self) -> None:
        """Keep the worker for the next channel, unless it is busy or a strategy failed there.

        What that left behind, memory of a GPU for one, is nobody else's business.
        """
        if self._spoiled:
            self._worker.process.kill()
            self._worker.stop()
        elif self._worker.process.poll() is None:
            _idle.setdefault(self._target, []).append(self._worker)


@atexit.register
def _stop_all() -> None:
    for workers in _idle.values():
        for worker in workers:
            worker.stop()
