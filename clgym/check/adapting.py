"""A test-time strategy on one tiny stream in this process, driven by the gym's own code."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from clgym.check.solo import SoloLearners
from clgym.engines.channel import Message
from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.gym.sessions import make_session
from clgym.learner.entrance import Learner
from clgym.messages import Adapt, Adapted, parse_event, parse_reply, parse_request
from clgym.strategy import Batch, Strategy

__all__ = ["ORDER_KEY", "AdaptBench"]

ORDER_KEY = "00" * 32
"""Key of the order of test rows in checks, the same for every seed."""


class AdaptBench:
    """A run over unlabelled batches that keeps all predictions.

    Attributes:
        logits: Logits by number of the batch, float32 [n, classes].
        labels: Labels that batches carry: one value for all images, or None for no labels.
    """

    enforced = "none"
    labels: int | None = None

    def __init__(self, request: Request, on_event: OnEvent) -> None:
        """Prepare a run, or continue the run whose files are in the request's folder."""
        self._learner = Learner(lambda event: on_event(parse_event(event)))
        self.logits: dict[int, np.ndarray] = {}
        self._images: np.ndarray | None = None
        resolved = resolve(request, self)
        self._session = make_session(
            resolved, Conversation(self, on_event), SoloLearners(self), on_event, ORDER_KEY
        )
        resolved.out.mkdir(parents=True, exist_ok=True)

    def ask(self, message: Message, on_event: Callable[[Message], None]) -> Message:
        """Act as the channel: pass the message to the learner, and let its exceptions through."""
        request = parse_request(message)
        if isinstance(request, Adapt) and self.labels is not None:
            self._label(request)
        reply = self._learner.handle(message)
        if isinstance(request, Adapt):
            self.logits[request.number] = parse_reply(Adapted, reply).logits
            self._images = request.images
        return reply

    def prepare(self, libraries: Iterable[int]) -> None:
        """There is nothing to prepare in this process."""

    def close(self) -> None:
        """There is no process to end."""

    def _label(self, message: Adapt) -> None:
        """Put labels on the next batch whose values do not depend on the images."""
        strategy, adapt = self.strategy, type(self.strategy).adapt
        labels = torch.full((len(message.images),), self.labels or 0)

        def labelled(batch: Batch) -> torch.Tensor:
            vars(batch)["labels"] = labels
            return adapt(strategy, batch)

        strategy.adapt = labelled  # type: ignore[method-assign]

    @property
    def strategy(self) -> Strategy:
        """The strategy of the learner."""
        return self._learner.strategy

    def whole(self) -> list[np.ndarray]:
        """Process all batches that are left; return the logits of each."""
        self._session.run()
        return [self.logits[number] for number in sorted(self.logits)]

    def predict(self, index: int) -> np.ndarray:
        """Logits for the last batch without an update, float32 [n, columns]."""
        assert self._images is not None
        pixels = torch.from_numpy(self._images).permute(0, 3, 1, 2).float().div(255)
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            torch.manual_seed(0)  # so that random views of the images are the same each time
            return self.strategy.predict(Batch(pixels)).float().numpy()
