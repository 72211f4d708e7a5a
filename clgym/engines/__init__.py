"""Execution of learners. An engine opens a `Channel`; the gym asks, the learner replies.

Engines know nothing of learners: they carry messages to whatever *target* they are given, a
``module:Class`` whose instances have ``handle(message) -> reply``. A class method
``prepare(library)``, if there is one, imports a library of the target's own list, by its number.
"""

import os
import socket
import sys
from collections.abc import Iterable

from clgym.engines.channel import INSIDE, Channel, Engine, OnEvent
from clgym.engines.sandbox import Confinement, Sandbox
from clgym.errors import BadConfig, BadPlugin

__all__ = [
    "Channel",
    "Confinement",
    "Engine",
    "OnEvent",
    "Sandbox",
    "open_channel",
    "refuse_inside",
]


def refuse_inside(target: str) -> None:
    """Refuse to start a worker inside a worker.

    Raises:
        BadPlugin: a plugin's file starts a run when it is imported.
    """
    if os.environ.get(INSIDE) == target:
        raise BadPlugin(
            expected="a plugin file that only contains definitions",
            found="a file that starts a run when it is imported",
            fix='Put the run below `if __name__ == "__main__":`',
        )


def open_channel(
    engine: Engine,
    target: str,
    confinement: Confinement | None = None,
    seconds: float | None = None,
    libraries: Iterable[int] = (),
) -> Channel:
    """Start a worker with ``target``, for one conversation.

    Args:
        engine: In a process of its own, or in this one.
        target: ``module:Class`` that answers.
        confinement: What the process may open; None leaves it as free as this one.
        seconds: Time for each answer; None is any time.
        libraries: What the worker is known to import; see `Channel.prepare`.

    Raises:
        BadPlugin: inside a worker: a plugin's file that starts runs when it is imported.
        BadConfig: what is demanded cannot be enforced, or a limit of time in this process; or this
            system cannot fork.
    """
    refuse_inside(target)
    if engine == "process":
        _check_fork()
        from clgym.engines.process import ProcessChannel  # here: who asks nothing does without

        return ProcessChannel(target, confinement, seconds, libraries)
    if seconds is not None or (confinement is not None and confinement.sandbox != "auto"):
        raise BadConfig(
            expected="--engine process, which --timeout and --sandbox need",
            found=f"--engine {engine}",
            fix="Remove --timeout and --sandbox, or --engine",
        )
    from clgym.engines.inline import InlineChannel

    return InlineChannel(target)


def _check_fork() -> None:
    """Refuse workers where the system has none of what they are made of."""
    if not (hasattr(os, "fork") and hasattr(socket, "send_fds")):
        raise BadConfig(
            expected="a POSIX system (Linux, macOS) for a learner in a process of its own",
            found=sys.platform,
            fix="Give --engine inline, which does not keep labels out of reach, or use WSL",
        )
