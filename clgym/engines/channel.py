"""The conversation with a worker, whatever carries it."""

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from clgym.codec import Tree

__all__ = ["INSIDE", "Channel", "Engine", "Message", "OnEvent"]

Engine = Literal["process", "inline"]

INSIDE = "CLGYM_INSIDE_WORKER"
"""Environment variable of a worker, which holds its target. A worker of a study has learners of its
own."""
Message = dict[str, Tree]
"""A request, a reply or an event as it travels; `clgym.messages` says what stands in it."""
OnEvent = Callable[[Message], None]


class Channel(Protocol):
    """A conversation with one learner."""

    @property
    def enforced(self) -> str:
        """What the learner's sandbox enforces, in words; ``none`` without one."""
        ...

    def ask(self, message: Message, on_event: OnEvent) -> Message:
        """Send a message, pass events on as they come, return the reply.

        Raises:
            ClgymError: what the other side raised.
            StrategyFailed: its own code raised, the process died, or time is up.
        """
        ...

    def prepare(self, libraries: Iterable[int]) -> None:
        """Have libraries of the target's list imported once for all learners to come.

        Args:
            libraries: Numbers from 0 to 254, as a learner reported them.
        """
        ...

    def close(self) -> None:
        """End the conversation, and the process that led it."""
        ...
