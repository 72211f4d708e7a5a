"""Main module of a worker inside a sandbox that is entered by starting a program.

``python -m clgym.engines.confined FD MODULE:CLASS ENFORCED``: environment, folder and limits are
those of the worker that it replaces; see `clgym.engines.bubblewrap`.
"""

import contextlib
import signal
import sys
from multiprocessing.connection import Connection

from clgym.engines.worker import serve

__all__: list[str] = []

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gym handles Ctrl-C and ends the worker
    with contextlib.suppress(EOFError, ConnectionError):
        serve(Connection(int(sys.argv[1])), sys.argv[2], sys.argv[3])
