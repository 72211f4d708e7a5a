"""Execution of learners. An engine opens a `Channel`; the gym asks, the learner replies.

Engines do not depend on learners: they carry messages to a given *target*, a ``module:Class`` whose
instances have ``handle(message) -> reply``. A class method ``prepare(library)``, if there is one,
imports a library of the target's own list, by its number.
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
        BadPlugin: A plugin's file starts a run when it is imported.
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
        engine: Whether to use a separate process or this one.
        target: ``module:Class`` that handles messages.
        confinement: Files that the process may open; None means no restriction.
        seconds: Time limit in seconds for each reply; None means no limit.
        libraries: Libraries that the worker will import; see `Channel.prepare`.

    Raises:
        BadPlugin: Called inside a worker, by a plugin's file that starts runs when it is imported.
        BadConfig: The engine has no sandbox or time limit, or this system cannot fork.
        Incompatible: The system lacks the requested sandbox.
    """
    refuse_inside(target)
    if engine == "process":
        _check_fork()
        # imported here, since many commands start no worker
        from clgym.engines.process import ProcessChannel

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
    """Refuse workers on systems that cannot fork."""
    if not (hasattr(os, "fork") and hasattr(socket, "send_fds")):
        raise BadConfig(
            expected="a POSIX system (Linux, macOS) for a learner in a separate process",
            found=sys.platform,
            fix="Give --engine inline, which cannot withhold labels, or use WSL",
        )
