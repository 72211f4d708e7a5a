"""Gym and learner in one process, for a debugger. No process border withholds anything."""

import sys
from collections.abc import Iterable

from clgym.engines.answer import answer, done, make_target, raise_error
from clgym.engines.channel import Message, OnEvent
from clgym.engines.spec import Done, PoolSpec
from clgym.engines.spec import OnEvent as OnPoolEvent

__all__ = ["InlineChannel", "InlinePool"]


class InlineChannel:
    """Calls the target directly."""

    enforced = "none"

    def __init__(self, target: str) -> None:
        """Build the target here."""
        self._on_event: OnEvent = lambda event: None
        self._handler = make_target(target, lambda event: self._on_event(event))

    def ask(self, message: Message, on_event: OnEvent) -> Message:
        """See `Channel.ask`."""
        self._on_event = on_event
        reply = answer(self._handler, message)
        raise_error(reply, sys.stderr.write)
        return reply

    def prepare(self, libraries: Iterable[int]) -> None:
        """There is nothing to do, since all share the imports of this process."""

    def close(self) -> None:
        """Nothing to end."""


class InlinePool:
    """One job after another, in this process."""

    def __init__(self, spec: PoolSpec, target: str, on_event: OnPoolEvent) -> None:
        """Build the target here."""
        self._job: tuple[str, Message] | None = None
        self._device = spec.device(0)
        self._handler = make_target(target, self._pass_on)
        self._on_event = on_event

    def _pass_on(self, event: Message) -> None:
        if self._job is not None:
            self._on_event(self._job[0], event)

    @property
    def free(self) -> int:
        """See `WorkerPool.free`."""
        return int(self._job is None)

    def submit(self, key: str, message: Message) -> None:
        """See `WorkerPool.submit`."""
        self._job = (key, {**message, "device": self._device})

    def wait(self, seconds: float) -> list[Done]:
        """Carry out the job without a time limit."""
        if self._job is None:
            return []
        key, message = self._job
        reply = answer(self._handler, message)
        self._job = None
        return [done(key, reply)]

    def close(self) -> None:
        """Nothing to end."""
