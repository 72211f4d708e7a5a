"""A learning run in this process, message by message, driven by the gym's own code."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from clgym.check.adapting import ORDER_KEY
from clgym.check.solo import SoloLearners
from clgym.engines.channel import Message
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.learning import LearningPhase
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.gym.scoring import TestPool, pool_after
from clgym.gym.sessions import make_session
from clgym.learner.entrance import Learner
from clgym.messages import Predict, Represent, Save, parse_event, parse_request, to_tree
from clgym.scenario import Stream
from clgym.strategy import Batch, Strategy

__all__ = ["Simulator"]


class Simulator:
    """Both sides of a learning run, executed step by step; made by `clgym.testing.simulate`.

    The messages are those of every run (`clgym.messages`), validated at both ends.

    Attributes:
        learner: The learner's side.
        order: Function from a number of test rows to their order; None keeps the gym's order.
        batch_size: Number of rows per batch at prediction; None keeps the gym's.
        labels: Function from test rows to labels that test batches carry; None as in every run.
        shapes: List to which the shapes of logits are added instead of being checked; None as in
            every run.
    """

    enforced = "none"
    order: Callable[[int], np.ndarray] | None = None
    batch_size: int | None = None
    labels: Callable[[np.ndarray], torch.Tensor] | None = None
    shapes: list[tuple[int, ...]] | None = None

    def __init__(self, request: Request, on_event: OnEvent = lambda event: None) -> None:
        """Start the strategy, or continue the run whose files are in the request's folder."""
        self.learner = Learner(lambda event: on_event(parse_event(event)))
        self._resolved = resolve(request, self)
        self._conversation = Conversation(self, on_event)
        self._session = make_session(
            self._resolved, self._conversation, SoloLearners(self), on_event, ORDER_KEY
        )
        (phase,) = self._session.phases
        assert isinstance(phase, LearningPhase)
        self._phase = phase
        self._resolved.out.mkdir(parents=True, exist_ok=True)
        self._session.resume()
        self._session.begin(0)

    def ask(self, message: Message, on_event: Callable[[Message], None]) -> Message:
        """Act as the channel: pass the message to the learner, and let its exceptions through."""
        request = parse_request(message)
        if not isinstance(request, Predict | Represent):
            return self.learner.handle(message)
        count = len(request.rows)
        order = np.arange(count) if self.order is None else self.order(count)
        changed = replace(
            request,
            rows=request.rows[order],
            where=request.where[order],
            batch_size=self.batch_size or request.batch_size,
        )
        if isinstance(request, Predict) and request.features is not None:
            np.save(request.features, np.load(request.features)[order])
        with self._observed(changed):
            reply: Any = self.learner.handle(to_tree(changed))
        name = "logits" if isinstance(request, Predict) else "features"
        answers = np.empty_like(reply[name])
        answers[order] = reply[name]
        return {**reply, name: answers}

    @contextlib.contextmanager
    def _observed(self, request: Predict | Represent) -> Iterator[None]:
        """Put labels on the batches, or record shapes, while a message is answered."""
        if self.labels is None and self.shapes is None:
            yield
            return
        strategy, done = self.strategy, 0
        hook = "predict" if isinstance(request, Predict) else "represent"
        answering = getattr(strategy, hook)

        def observed(batch: Batch) -> torch.Tensor:
            nonlocal done
            rows = request.rows[done : done + len(batch)]
            done += len(batch)
            if self.labels is not None:
                vars(batch)["labels"] = self.labels(rows)  # a strategy may look for them
            answer = answering(batch)
            if self.shapes is None or not isinstance(request, Predict):
                return answer
            self.shapes.append(tuple(answer.shape))
            return torch.zeros(len(batch), request.num_seen_classes)

        vars(strategy)[hook] = observed
        try:
            yield
        finally:
            del vars(strategy)[hook]

    def prepare(self, libraries: Iterable[int]) -> None:
        """There is nothing to prepare in this process."""

    def close(self) -> None:
        """There is no process to end."""

    @property
    def strategy(self) -> Strategy:
        """The strategy of the learner."""
        return self.learner.strategy

    @property
    def stream(self) -> Stream:
        """The stream of the run."""
        return self._resolved.stream

    def labels_of(self, rows: np.ndarray) -> torch.Tensor:
        """Class indices of test rows, int64 [n]; an arbitrary class for rows that do not exist."""
        (source,), (columns,) = self._resolved.sources, self.stream.columns
        labels = source.test.labels
        return torch.from_numpy(np.array(columns)[labels[rows % len(labels)]])

    def train_images(self) -> np.ndarray:
        """All training images of the stream, uint8 [n, H, W, C]."""
        return np.asarray(self._resolved.sources[0].train.images)

    def train(self, index: int) -> None:
        """Train experience ``index``, from its beginning or from where a killed run stopped."""
        self._phase.carry_out(index)

    def pool(self, index: int) -> TestPool:
        """The test rows scored after experience ``index``."""
        return pool_after(self.stream, self._resolved.sources, index)

    def predict(self, index: int) -> np.ndarray:
        """Logits of the rows of `pool`, float32 [n, classes], in the pool's order.

        On pretraining streams: features of the rows, float32 [n, width].
        """
        return self._phase.tester.answers(self._conversation, index, self.pool(index))

    def save(self, index: int) -> None:
        """Save the run after experience ``index``."""
        self._session.save(0, index, started=time.perf_counter())

    def state(self) -> bytes:
        """The learner's whole state as it would be saved."""
        path = self._resolved.out / "now.safetensors"
        Conversation(self).save(Save(path=path))
        return path.read_bytes()

    def whole(self) -> list[np.ndarray]:
        """Train every experience; return the logits after each."""
        found = []
        for index in range(len(self.stream)):
            self.train(index)
            found.append(self.predict(index))
        return found
