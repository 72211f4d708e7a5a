"""Main module of a fork server: ``python -m clgym.engines.forkserver FD MODULE:CLASS``.

It imports the target's module and forks a worker whenever the gym sends it two sockets and a place
for output: the worker communicates through one, and the server reports on the other how the worker
ended. It reads no data of a run, so that a worker starts fast and has data only of its own run.
Libraries that the gym names by number, from a list of the target's, are imported here once. When a
worker ends, all processes that it started end with it; when the gym ends, so do the server and all
workers.
"""

import contextlib
import fcntl
import gc
import os
import select
import signal
import socket
import stat
import sys
import traceback
from pathlib import Path

from clgym.engines.answer import prepare, warm_up
from clgym.engines.system import adopt_orphans, die_with_parent
from clgym.engines.wire import FORK
from clgym.engines.worker import work

__all__: list[str] = []

_TICK = 1.0
"""Seconds between two checks of whether the gym is still alive."""


class _Server:
    def __init__(self, control: socket.socket, target: str) -> None:
        self._control, self._target, self._parent = control, target, os.getppid()
        self._living: dict[int, socket.socket] = {}
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Fork workers until the gym closes the connection or has ended."""
        try:
            while self._turn():
                pass
        finally:
            for pid in self._living:
                _kill(pid)
            _end_orphans(())

    def _turn(self) -> bool:
        sockets = [self._control, self._woken, *self._living.values()]
        ready = select.select(sockets, [], [], _TICK)[0]
        if self._woken in ready:
            self._woken.recv(4096)
        for pid, status in self._living.items():
            if status in ready:  # nothing is ever written to it: the gym has closed the connection
                _kill(pid)
        self._reap()
        if not self._living:
            _end_orphans(())
        if os.getppid() != self._parent:
            return False
        return self._obey() if self._control in ready else True

    def _reap(self) -> None:
        """Collect ended workers, end the processes that they left, then report how they ended."""
        for pid in list(self._living):
            found, code = os.waitpid(pid, os.WNOHANG)
            if found:
                status = self._living.pop(pid)
                _kill(pid)
                _end_orphans(self._living)
                with status, contextlib.suppress(OSError):
                    status.send(str(os.waitstatus_to_exitcode(code)).encode())

    def _obey(self) -> bool:
        """Carry out a request of the gym; return False if it has closed the connection."""
        data, descriptors, _, _ = socket.recv_fds(self._control, 1, 3)
        if data == FORK:
            try:
                self._fork(*descriptors)
            except (OSError, TypeError):  # of a system without room for processes or descriptors
                traceback.print_exc()  # the gym notices that the worker's socket is closed
                for descriptor in descriptors:
                    with contextlib.suppress(OSError):
                        os.close(descriptor)
        elif data:
            with contextlib.suppress(Exception):  # workers will report what is wrong with it
                prepare(self._target, data[0])
        return bool(data)

    def _fork(self, talk: int, status: int, output: int) -> None:
        gc.freeze()  # otherwise the worker's first garbage collection copies all loaded pages
        pid = os.fork()
        if pid == 0:
            self._become_worker(talk, status, output)
        os.close(talk)
        os.close(output)
        self._living[pid] = socket.socket(fileno=status)

    def _become_worker(self, talk: int, status: int, output: int) -> None:
        """Run a worker in this process; never returns."""
        code = 1
        try:
            os.setsid()
            die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _open_streams(output)
            os.close(output)
            os.close(status)
            for inherited in (self._control, self._woken, self._wake, *self._living.values()):
                inherited.close()
            self._living = {}
            work(talk, self._target)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def _open_streams(output: int) -> None:
    """Open the standard streams anew: locks and places of files opened by others would be shared.

    Args:
        output: Descriptor of the output; a socket, which cannot be opened, is shared.
    """
    silent = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silent, 0)
    os.close(silent)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOCTTY
        own = os.open(f"/proc/self/fd/{output}", flags | os.O_NONBLOCK)  # a pipe without a reader
        os.set_blocking(own, True)
        if stat.S_ISREG(os.fstat(output).st_mode):  # or others would write over what this adds
            flags = fcntl.fcntl(output, fcntl.F_GETFL)
            fcntl.fcntl(output, fcntl.F_SETFL, flags | os.O_APPEND)
    except OSError:
        own = os.dup(output)
    for stream in (1, 2):
        os.dup2(own, stream)
    os.close(own)


def _kill(pid: int) -> None:
    """End a worker and its process group."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)


def _end_orphans(living: "dict[int, socket.socket] | tuple[()]") -> None:
    """End processes that workers left behind, if the system assigns orphans to this process."""
    while strangers := [pid for pid in _children() if pid not in living]:
        for pid in strangers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


if __name__ == "__main__":
    # Ctrl-C is handled by the gym, which ends the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans()
    warm_up(sys.argv[2])
    _Server(socket.socket(fileno=int(sys.argv[1])), sys.argv[2]).serve()
    os._exit(0)  # a regular exit of torch takes as long as a small run
