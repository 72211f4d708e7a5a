"""Where learners execute. An engine opens a `Channel`; the gym asks, the learner's side answers.

Engines know nothing of learners: they carry messages to whatever *target* they are given, a
``module:Class`` whose instances have ``handle(message) -> reply``.
"""

import os

from clgym.engines.channel import INSIDE, Channel, Engine, OnEvent
from clgym.engines.inline import InlineChannel
from clgym.engines.process import ProcessChannel
from clgym.errors import BadPlugin

__all__ = ["Channel", "Engine", "OnEvent", "open_channel"]


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
        return InlineChannel(target)
    return ProcessChannel(target)
