"""Main module of a worker process: ``python -m clgym.engines.worker FD MODULE:CLASS``."""

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from clgym.engines.answer import answer, as_data, make_target
from clgym.engines.channel import INSIDE
from clgym.engines.wire import receive, send
from clgym.errors import BadAnswer

__all__: list[str] = []


def _die_with_parent() -> None:
    """End when the gym is gone, also in the middle of a strategy that never reports."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(descriptor: int, target: str) -> None:
    """Answer messages until the gym hangs up."""
    _die_with_parent()
    os.environ[INSIDE] = target
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gym's: it ends the worker
    connection = Connection(descriptor)
    handler = make_target(target, lambda event: send(connection, {"event": event}))
    try:
        while True:
            reply = answer(handler, receive(connection))
            try:
                send(connection, reply)
            except BadAnswer as error:
                send(connection, as_data(error))
    except (EOFError, OSError):
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
