"""The gym's end of the conversation with the learner: typed requests, validated replies."""

from collections.abc import Callable
from typing import TypeVar

from clgym.engines import Channel
from clgym.messages import (
    Adapt,
    Adapted,
    DescribeNeeds,
    DescribeOptions,
    DescribeReads,
    EndTest,
    Event,
    ExperienceTrained,
    FillClassifiers,
    Filled,
    FillFeatures,
    Forget,
    Forgotten,
    Load,
    Loaded,
    NeedsDescribed,
    OptionsDescribed,
    Predict,
    Predicted,
    ReadsDescribed,
    Represent,
    Represented,
    Request,
    Save,
    Saved,
    Start,
    Started,
    TestDue,
    TestEnded,
    Train,
    parse_event,
    parse_reply,
    to_tree,
)

__all__ = ["Conversation", "OnEvent", "ignore"]

OnEvent = Callable[[Event], None]
R = TypeVar("R")


def ignore(event: Event) -> None:
    """Ignore an event."""


class Conversation:
    """Requests to a learner; each raises the errors of `Channel.ask`.

    Attributes:
        ended: Whether the learner was ended, so that the next request starts another one.
    """

    def __init__(
        self,
        channel: Channel,
        on_event: OnEvent = ignore,
        another: Callable[[], Channel] | None = None,
    ) -> None:
        """Use ``channel``.

        Args:
            channel: Channel to the learner.
            on_event: Called with each event of progress.
            another: Opens a channel to a new learner; None if the first one stays to the end.
        """
        self._channel, self._on_event, self._another = channel, on_event, another
        self.ended = False

    @property
    def enforced(self) -> str:
        """Text of the restrictions of the learner's sandbox; ``none`` without one."""
        return self._channel.enforced

    def end_learner(self) -> None:
        """End the learner with all that it holds, unless it stays to the end."""
        if self._another is not None:
            self._channel.close()
            self.ended = True

    def close(self) -> None:
        """End the conversation."""
        self._channel.close()

    def describe_options(self, question: DescribeOptions) -> OptionsDescribed:
        """A strategy's options."""
        return self._ask(question, OptionsDescribed)

    def describe_needs(self, question: DescribeNeeds) -> NeedsDescribed:
        """What a strategy needs with all its options known."""
        reply = self._ask(question, NeedsDescribed)
        self._channel.prepare(reply.libraries)
        return reply

    def describe_reads(self, question: DescribeReads) -> ReadsDescribed:
        """Files that influenced the descriptions so far."""
        return self._ask(question, ReadsDescribed)

    def start(self, message: Start) -> Started:
        """Build the strategy for one stream."""
        reply = self._ask(message, Started)
        self._channel.prepare(reply.libraries)
        return reply

    def train(self, message: Train, on_test: Callable[[TestDue], None]) -> ExperienceTrained:
        """Train on one experience; ``on_test`` is called when a test inside it is due."""

        def on_event(event: Event) -> None:
            on_test(event) if isinstance(event, TestDue) else self._on_event(event)

        return self._ask(message, ExperienceTrained, on_event)

    def predict(self, message: Predict) -> Predicted:
        """Predict test rows."""
        return self._ask(message, Predicted)

    def represent(self, message: Represent) -> Represented:
        """Return features of rows."""
        return self._ask(message, Represented)

    def end_test(self) -> TestEnded:
        """End a test."""
        return self._ask(EndTest(), TestEnded)

    def fill_features(self, message: FillFeatures) -> None:
        """Compute frozen features that are not in the cache."""
        self._ask(message, Filled)

    def fill_classifiers(self, message: FillClassifiers) -> None:
        """Train a classifier that is not in the cache."""
        self._ask(message, Filled)

    def adapt(self, message: Adapt) -> Adapted:
        """Predict an unlabelled batch, then learn from it."""
        return self._ask(message, Adapted)

    def forget(self, message: Forget) -> Forgotten:
        """Forget some rows on request."""
        return self._ask(message, Forgotten)

    def save(self, message: Save) -> Saved:
        """Write the learner's state."""
        return self._ask(message, Saved)

    def load(self, message: Load) -> Loaded:
        """Load a state and continue from it."""
        return self._ask(message, Loaded)

    def _ask(self, message: Request, reply: type[R], on_event: OnEvent | None = None) -> R:
        if self.ended and self._another is not None:
            self._channel, self.ended = self._another(), False
        hear = on_event or self._on_event
        answer = self._channel.ask(to_tree(message), lambda event: hear(parse_event(event)))
        return parse_reply(reply, answer)
