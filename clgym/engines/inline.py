"""Gym and learner in one process: for a debugger. Nothing is withheld by a process border."""

import sys
from typing import Any

from clgym.engines import OnEvent
from clgym.engines.answer import answer, make_target, raise_error

__all__ = ["InlineChannel"]


class InlineChannel:
    """Calls the target directly."""

    def __init__(self, target: str) -> None:
        """Build the target here."""
        self._on_event: OnEvent = lambda event: None
        self._handler = make_target(target, lambda event: self._on_event(event))

    def ask(self, message: dict[str, Any], on_event: OnEvent) -> dict[str, Any]:
        """See `Channel.ask`."""
        self._on_event = on_event
        reply = answer(self._handler, message)
        raise_error(reply, sys.stderr.write)
        return reply

    def close(self) -> None:
        """Nothing to end."""
