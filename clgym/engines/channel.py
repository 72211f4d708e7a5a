"""Interface of the conversation with a worker."""

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from clgym.codec import Tree

__all__ = ["INSIDE", "Channel", "Engine", "Message", "OnEvent"]

Engine = Literal["process", "inline"]

INSIDE = "CLGYM_INSIDE_WORKER"
"""Environment variable of a worker, which holds its target. Workers of a study start learners
themselves."""
Message = dict[str, Tree]
"""A request, a reply or an event as it is sent; `clgym.messages` defines the content."""
OnEvent = Callable[[Message], None]


class Channel(Protocol):
    """A conversation with one learner."""

    @property
    def enforced(self) -> str:
        """Text of the restrictions of the learner's sandbox; ``none`` without one."""
        ...

    def ask(self, message: Message, on_event: OnEvent) -> Message:
        """Send a message, pass events on as they come, return the reply.

        Raises:
            ClgymError: An error that the other side raised.
            StrategyFailed: The strategy raised an exception, its process died, or time is up.
        """
        ...

    def prepare(self, libraries: Iterable[int]) -> None:
        """Import libraries of the target's list once for all later learners.

        Args:
            libraries: Numbers from 0 to 254, as a learner reported them.
        """
        ...

    def close(self) -> None:
        """End the conversation and its process."""
        ...
