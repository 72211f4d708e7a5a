"""Misbehaves while it trains."""

import contextlib
import os
import signal
import time
from pathlib import Path

from clgym.strategies.nmc import NMC

DEED = "hang"
DETACHED = False
OUT = "run"
NOTE = "pid"


def child():
    """A process that holds the sockets of this one and waits; its number."""
    pid = os.fork()
    if pid == 0:
        if DETACHED:
            os.setsid()
            os.chdir("/")
        while True:
            signal.pause()
    return pid


def die():
    child()
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    child()
    os._exit(7)


def fail():
    raise ValueError(f"pid {child()}")


def hang():
    while True:
        signal.pause()


def forge():
    """Leave a process that overwrites the record as soon as there is one."""
    if Path(NOTE).exists():
        return
    pid = os.fork()
    if pid == 0:
        os.setsid()
        record = Path(OUT, "record.json")
        while not record.exists():
            time.sleep(0.001)
        while True:
            with contextlib.suppress(OSError):
                record.write_text("forged")
    Path(NOTE).write_text(str(pid))


class Misbehaving(NMC):
    def train(self, experience):
        super().train(experience)
        globals()[DEED]()
