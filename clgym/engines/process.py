"""The learner in a separate process, which serves one experience or one test and ends.

A fork server is started by command line, not forked and not by multiprocessing: it inherits neither
the gym's memory, which holds the labels, nor the caller's main module. It imports torch once and
stays; every worker is a fork of it, so that it starts fast and has no data of earlier runs.
Standard output of both goes to the gym's standard error, so that a plugin that prints does not
corrupt the output of ``--json``.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from clgym.engines.answer import event_in, raise_error
from clgym.engines.channel import Message, OnEvent
from clgym.engines.sandbox import Confinement
from clgym.engines.scratch import Scratch
from clgym.engines.wire import FORK, receive, send
from clgym.errors import BadAnswer, GymFailed, OutOfTime, WorkerDied

__all__ = ["ProcessChannel", "Worker"]

_PATIENCE = 2.0
"""Seconds that a process may take to end before it is killed."""
_LAST_WORD = 20.0
"""Seconds to wait for the report on a killed process, since its server may be importing a library.
"""
_STDERR = 2
_READ_WHEN_LOADING = (
    *("PATH", "PYTHON", "VIRTUAL_ENV", "LD_", "DYLD_", "MALLOC_", "TORCH", "CUDA", "CUBLAS"),
    *("NVIDIA", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_"),
)
"""Prefixes of the environment variables that Python and libraries read on loading."""


class _ForkServer:
    """A process that forks workers of one target."""

    def __init__(self, target: str, environment: dict[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clgym.engines.forkserver", str(theirs.fileno()), target],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,
            env=environment,
        )
        theirs.close()
        self._control = ours
        self._prepared: set[int] = set()
        self.workers = 0
        """Number of workers that are running."""

    def fork(self) -> tuple[Connection, socket.socket]:
        """Start a worker; return the socket to it, and one that reports how it ended."""
        ours, theirs = socket.socketpair()
        status, told = socket.socketpair()
        # the server is dead, which the worker's status reports
        with theirs, told, contextlib.suppress(OSError):
            socket.send_fds(self._control, [FORK], [theirs.fileno(), told.fileno(), _STDERR])
        self.workers += 1
        return Connection(ours.detach()), status

    def prepare(self, libraries: Iterable[int]) -> None:
        """Import libraries for later workers; return before they are imported."""
        for library in set(libraries) - self._prepared:
            self._prepared.add(library)
            with contextlib.suppress(OSError):
                self._control.send(bytes([library]))

    def stop(self) -> None:
        """Close the connection and wait; processes that are still running are killed."""
        self._control.close()
        try:
            self.process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_servers: dict[tuple[Any, ...], _ForkServer] = {}


def _server_of(target: str) -> _ForkServer:
    """The fork server of a target under the present environment, started if there is none."""
    # cuBLAS reads this when CUDA starts: without it, deterministic mode refuses to work.
    environment = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ}
    loading = {k: v for k, v in environment.items() if k.startswith(_READ_WHEN_LOADING)}
    key = (target, os.getpid(), str(Path.cwd()), *sorted(loading.items()))
    for other, server in list(_servers.items()):
        ended = server.process.poll() is not None if other[1] == os.getpid() else False
        if ended or (other[:2] == key[:2] and other != key and not server.workers):
            _servers.pop(other).stop()
    if key not in _servers:
        _servers[key] = _ForkServer(target, environment)
    return _servers[key]


class Worker:
    """A process with a target, and this side's sockets to it and to its server."""

    def __init__(
        self,
        target: str,
        confinement: Confinement | None = None,
        libraries: Iterable[int] = (),
    ) -> None:
        """Start the process.

        Args:
            target: ``module:Class`` that handles messages.
            confinement: Files that it may open; None means no restriction.
            libraries: Libraries that it will import; see `Channel.prepare`.

        Raises:
            Incompatible: The system lacks the requested sandbox.
            GymFailed: The process ended before it could begin, so before it loaded any plugin.
        """
        self._server, self._asked = _server_of(target), 0
        self._server.prepare(libraries)
        self._scratch = None
        if confinement is not None:
            self._scratch = Scratch()
            confinement = confinement.with_scratch(self._scratch.folder)
        self.connection, self.status = self._server.fork()
        setup: Message = {  # see `clgym.engines.worker.Setup`
            "environment": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ},
            "folder": str(Path.cwd()),
            "confinement": None if confinement is None else confinement.to_tree(),
        }
        self.enforced = "none"
        """What the sandbox of this worker enforces."""
        with contextlib.suppress(OSError):  # it died just now: whoever waits finds out
            send(self.connection, setup)
        try:
            settled = receive(self.connection, self.wait)
        except (EOFError, OSError) as error:
            raise GymFailed(
                expected="a process for the learner or the job",
                found=self.death().found,
                fix="Repeat the command; messages of the process are above",
            ) from error
        if "error" in settled:
            self.stop()
            raise_error(settled, sys.stderr.write)
        self.enforced = str(settled["enforced"])

    def ask(self, message: Message) -> None:
        """Send a message.

        Raises:
            OSError: The process has ended.
        """
        self._asked += 1
        send(self.connection, {**message, "question": self._asked})

    def receive(self, deadline: float | None = None) -> Message:
        """Return the next event, or the reply to the last message.

        Args:
            deadline: Time of the monotonic clock by which it must arrive; None means no limit.

        Raises:
            EOFError, OSError: The process has ended.
            TimeoutError: Nothing arrived in time.
            BadAnswer: What arrived is neither an event nor the reply to the last message.
        """
        message = receive(self.connection, lambda: self.wait(deadline))
        if "event" in message:
            return message
        if message.pop("question", None) != self._asked:
            raise BadAnswer(
                expected="one reply to every message of the gym",
                found="a reply to another message",
                fix="A plugin must not write to the learner's socket",
            )
        return message

    def wait(self, deadline: float | None = None) -> None:
        """Wait until something can be read.

        Raises:
            EOFError: The process ended, although a child of it may still hold its socket.
            TimeoutError: The deadline passed.
        """
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = wait([self.connection, self.status], left)
        if not ready:
            raise TimeoutError
        if self.connection not in ready:
            raise EOFError

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.status.fileno() < 0 or bool(wait([self.status], 0))

    def prepare(self, libraries: Iterable[int]) -> None:
        """Import libraries in the server of later workers; see `Channel.prepare`."""
        self._server.prepare(libraries)

    def kill(self) -> None:
        """Kill the process and everything that it started."""
        with contextlib.suppress(OSError):
            self.status.shutdown(socket.SHUT_WR)

    def stop(self) -> int | None:
        """Close the connection, wait briefly, then kill; return the exit code if it is known."""
        if self.status.fileno() < 0:
            return None
        with contextlib.suppress(OSError):
            self.connection.close()
        if not wait([self.status], _PATIENCE):
            self.kill()
        code = None
        if wait([self.status], _LAST_WORD):
            with contextlib.suppress(OSError, ValueError):
                code = int(self.status.recv(16))
        self.status.close()
        self._server.workers -= 1
        if self._scratch is not None:
            self._scratch.close()
        return code

    def death(self) -> WorkerDied:
        """Clean up a dead process, and return an error that says how it ended."""
        code = self.stop()
        how = "an end without a known cause"
        if code is not None:
            how = f"it ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
        return WorkerDied(
            expected="the learner's process to run until the end",
            found=how,
            fix="Repeat the command, which continues from the last checkpoint",
        )


class ProcessChannel:
    """A conversation with its own worker."""

    def __init__(
        self,
        target: str,
        confinement: Confinement | None = None,
        seconds: float | None = None,
        libraries: Iterable[int] = (),
    ) -> None:
        """Start a worker of this target; see `clgym.engines.open_channel`."""
        self._worker, self._seconds = Worker(target, confinement, libraries), seconds
        self._spoiled = False

    @property
    def enforced(self) -> str:
        """See `Channel.enforced`."""
        return self._worker.enforced

    def ask(self, message: Message, on_event: OnEvent) -> Message:
        """See `Channel.ask`."""
        self._spoiled = True  # busy until the reply is here, even after an interruption
        deadline = None if self._seconds is None else time.monotonic() + self._seconds
        with self._named(message):
            self._worker.ask(message)
        while (event := event_in(reply := self._next(message, deadline))) is not None:
            on_event(event)
        self._spoiled = False
        raise_error(reply, sys.stderr.write)
        return reply

    def _next(self, message: Message, deadline: float | None) -> Message:
        """The next event, or the reply."""
        with self._named(message):
            return self._worker.receive(deadline)

    @contextlib.contextmanager
    def _named(self, message: Message) -> Iterator[None]:
        """Name what ends a conversation.

        Only the conversation itself belongs inside: an error of the gym's own work on an event is
        no death of the learner.
        """
        try:
            yield
        except TimeoutError:
            raise OutOfTime(
                expected=f"an answer to {message['do']!r} within {self._seconds} s",
                found="none",
                fix="Give --timeout more minutes, or find the point at which the strategy hangs",
            ) from None
        except (EOFError, OSError) as error:
            raise self._worker.death() from error

    def prepare(self, libraries: Iterable[int]) -> None:
        """See `Channel.prepare`."""
        self._worker.prepare(libraries)

    def close(self) -> None:
        """End the worker and all that it started."""
        if self._spoiled:
            self._worker.kill()
        self._worker.stop()


@atexit.register
def _stop_all() -> None:
    for key, server in _servers.items():
        if key[1] == os.getpid():
            server.stop()
