"""Targets for the tests of engines; found by workers through PYTHONPATH."""

import errno
import os
import signal
import time
from pathlib import Path

from clgym.errors import BadConfig, GymFailed


class Echo:
    def __init__(self, emit):
        self._emit, self._count = emit, 0

    def blamed(self, error, message):
        return GymFailed

    def handle(self, message):
        self._count += 1
        do = message["do"]
        if do == "die" or (do == "die once" and not Path(message["flag"]).exists()):
            Path(message.get("flag", "/dev/null")).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if do == "refuse":
            raise BadConfig(expected="this", found="that", fix="Mend it")
        if do == "raise":
            raise ValueError("broken")
        if do == "busy":
            end = time.process_time() + message["seconds"]
            while time.process_time() < end:
                pass
        self._emit({"kind": "told", "value": message.get("value")})
        return {
            "value": message.get("value"),
            "device": message["device"],
            "pid": os.getpid(),
            "count": self._count,
        }


class Odd:
    """Replies with what the channel cannot hold."""

    def __init__(self, emit):
        pass

    def handle(self, message):
        circle = []
        circle.append(circle)
        deep = {"set": [0, {"value": {1}}], "circle": circle, "plain": [1]}
        return {"deep": deep[message["do"]]}


class Crowded(Echo):
    """Its server cannot start the first worker."""

    @classmethod
    def warm_up(cls):
        fork, left = os.fork, [1]

        def crowded():
            if left:
                left.pop()
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return fork()

        os.fork = crowded
