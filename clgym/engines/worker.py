"""Life of a worker: it sets up its folder, then handles one message after another."""

import os
import signal
import sys
import tempfile
from multiprocessing.connection import Connection
from typing import TypedDict, cast

from clgym.engines.answer import answer, as_data, make_target
from clgym.engines.channel import INSIDE, Message
from clgym.engines.sandbox import Confinement, confine
from clgym.engines.wire import receive, send
from clgym.errors import BadAnswer, ClgymError, GymFailed

__all__ = ["Setup", "serve", "work"]


def work(descriptor: int, target: str) -> None:
    """Process messages until the gym closes the connection.

    Args:
        descriptor: File descriptor of the socket to the gym.
        target: ``module:Class`` that handles messages.
    """
    # Ctrl-C is handled by the gym, which ends the worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        if (enforced := _settle(connection, target)) is not None:
            serve(connection, target, enforced)
    except (EOFError, ConnectionError):
        pass


class Setup(TypedDict):
    """The first message to a worker."""

    environment: dict[str, str]
    folder: str
    """Working folder."""
    confinement: Message | None
    """Result of `Confinement.to_tree`; None without a sandbox."""


def _settle(connection: Connection, target: str) -> str | None:
    """Take over the gym's environment and enter the sandbox, before a plugin is imported.

    Returns what is enforced; None if it cannot be enforced, after an error to the gym.
    """
    # No plugin is loaded yet, so only `clgym.engines.process.Worker` can have sent this.
    setup = cast(Setup, receive(connection))
    os.environ.clear()
    os.environ.update(setup["environment"])
    os.environ[INSIDE] = target
    try:
        os.chdir(setup["folder"])
        return _confine(setup["confinement"], _again(connection.fileno(), target))
    except ClgymError as error:
        send(connection, as_data(error))
    except OSError as error:
        send(connection, as_data(_unable(error)))
    return None


def _unable(error: OSError) -> GymFailed:
    return GymFailed(
        expected="a worker in its folder and its sandbox, before it loads any plugin",
        found=f"{error.strerror} at {error.filename}" if error.filename else str(error),
        fix="Repeat the command, which continues where it stopped",
    )


def _again(descriptor: int, target: str) -> list[str]:
    """Command that starts this worker anew, in a sandbox that takes its place."""
    os.set_inheritable(descriptor, True)
    return [sys.executable, "-m", "clgym.engines.confined", str(descriptor), target]


def _confine(asked: Message | None, restart: list[str]) -> str:
    if asked is None:
        return "none"
    confinement = Confinement.from_tree(asked)
    os.environ["TMPDIR"] = str(confinement.scratch)
    tempfile.tempdir = None
    # otherwise scikit-learn's joblib would warn that there is no shared memory
    os.environ["JOBLIB_MULTIPROCESSING"] = "0"
    return confine(confinement, restart)


def serve(connection: Connection, target: str, enforced: str) -> None:
    """Say what the sandbox enforces, then answer messages.

    Raises:
        EOFError, OSError: the gym hung up.
    """
    send(connection, {"enforced": enforced})
    handler = make_target(target, lambda event: send(connection, {"event": event}))
    while True:
        message = receive(connection)
        number = message.pop("question")
        reply = answer(handler, message)
        sys.stdout.flush()
        try:
            send(connection, {**reply, "question": number})
        except BadAnswer as error:
            send(connection, {**as_data(error), "question": number})
