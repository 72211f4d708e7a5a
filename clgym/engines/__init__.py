"""Where learners execute. An engine opens a `Channel`; the gym asks, the learner's side answers.

Engines know nothing of learners: they carry messages to whatever *target* they are given, a
``module:Class`` whose instances have ``handle(message) -> reply``.
"""

import os
from collections.abc import Callable
from typing import Any, Literal, Protocol

from clgym.errors import BadPlugin

__all__ = ["INSIDE", "Channel", "Engine", "open_channel"]

Engine = Literal["process", "inline"]

INSIDE = "CLGYM_INSIDE_WORKER"
"""In the environment of a worker: its target. A worker of a study has learners of its own."""
Message = dict[str, Any]
OnEvent = Callable[[Message], None]


class Channel(Protocol):
    """A conversation with one learner."""

    def ask(self, message: Message, on_event: OnEvent) -> Message:
        """Send a message, pass events on as they come, return the reply.

        Raises:
            ClgymError: what the other side raised.
            StrategyFailed: its own code raised, or the process died.
        """
        ...

    def close(self) -> None:
        """End the conversation; the worker may serve another."""
        ...


def open_channel(engine: Engine, target: str) -> Channel:
    """Start, or reuse, a place where ``target`` runs.

    Raises:
        BadPlugin: inside a worker: a plugin's file that starts runs when it is imported.
    """
    if os.environ.get(INSIDE) == target:
        raise BadPlugin(
            expected="a plugin's file that only defines things when it is imported",
            found="one that starts a run",
            fix='Put the run below `if __name__ == "__main__":`',
        )
    if engine == "inline":
        from clgym.engines.inline import InlineChannel

        return InlineChannel(target)
    from clgym.engines.process import ProcessChannel

    return ProcessChannel(target)
