"""A run in this process whose steps are executed one at a time, exactly as in every run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast

import numpy as np
import torch

from clgym.check.solo import SoloLearners
from clgym.engines.channel import Message
from clgym.gym.conversation import Conversation, ignore
from clgym.gym.learning import LearningPhase
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.gym.scoring import pool_after
from clgym.gym.sessions import make_session
from clgym.learner.entrance import Learner
from clgym.messages import parse_event, parse_request
from clgym.strategy import Strategy

__all__ = ["SteppedRun", "plain_torch"]

ORDER_KEY = "00" * 32


class SteppedRun:
    """Both sides of a run, with all messages, validation, gathering of images and events.

    Attributes:
        learner: The learner's side.
        message: The last message that the gym has sent.
    """

    enforced = "none"

    def __init__(self, request: Request) -> None:
        """Plan the run, and start the strategy."""
        self.learner = Learner(lambda event: ignore(parse_event(event)))
        self.message: Message = {}
        resolved = resolve(request, self)
        self._resolved, self._conversation = resolved, Conversation(self)
        session = make_session(resolved, self._conversation, SoloLearners(self), ignore, ORDER_KEY)
        (self.phase,) = session.phases
        resolved.out.mkdir(parents=True)
        self.phase.prepare()
        session.begin(0)

    def ask(self, message: Message, on_event: Callable[[Message], None]) -> Message:
        """Act as the channel: pass the message to the learner."""
        self.message = message
        return self.learner.handle(message)

    def prepare(self, libraries: Iterable[int]) -> None:
        """There is nothing to prepare in this process."""

    def close(self) -> None:
        """There is no process to end."""

    @property
    def strategy(self) -> Strategy:
        """The strategy of the learner."""
        return self.learner.strategy

    def images(self, split: Literal["train", "test"], index: int) -> tuple[np.ndarray, np.ndarray]:
        """Images of an experience, uint8 [n, H, W, C], and their class indices, int64 [n]."""
        step, stream = self._resolved.stream.steps[index], self._resolved.stream
        half, rows = getattr(self._resolved.sources[step.source], split), getattr(step, split)
        columns = np.array(stream.columns[step.source])
        return np.asarray(half.images[rows]), columns[half.labels[rows]]

    def step(self, index: int) -> None:
        """Train on experience ``index``, or process batch ``index`` of an adaptation stream."""
        self.phase.carry_out(index)

    def answer(self, index: int) -> np.ndarray:
        """Logits of all test rows seen after experience ``index``, float32 [n, classes]."""
        phase = cast(LearningPhase, self.phase)
        pool = pool_after(self._resolved.stream, self._resolved.sources, index)
        logits, _, _ = phase.tester.predict(self._conversation, index, pool)
        self._conversation.end_test()
        return logits

    def adapt(self, number: int) -> Any:
        """Send the last batch of an adaptation stream again, as batch ``number``."""
        parse_request(self.message)  # validated, as by a channel between processes
        return self.learner.handle({**self.message, "number": number})


@contextmanager
def plain_torch() -> Iterator[None]:
    """Use torch's default settings, without those of a run, in the block."""
    strict = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn)
