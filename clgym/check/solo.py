"""The learners of a check, all in this process, so that exceptions have a traceback."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from clgym.engines import Channel
from clgym.engines.inline import InlineChannel
from clgym.gym.conversation import Conversation
from clgym.gym.description import LEARNER
from clgym.messages import FillClassifiers, FillFeatures

__all__ = ["SoloLearners"]


class SoloLearners:
    """Makes learners for tests in this process; the learner that trains computes the features."""

    def __init__(self, channel: Channel) -> None:
        """``channel`` is that of the learner that trains."""
        self._channel = channel

    @contextmanager
    def testing(self, state: Path) -> Generator[Conversation]:
        """See `clgym.gym.testing.TestLearners`."""
        yield Conversation(InlineChannel(LEARNER))

    def fill_features(self, message: FillFeatures) -> None:
        """See `clgym.gym.testing.TestLearners`."""
        Conversation(self._channel).fill_features(message)

    def fill_classifiers(self, message: FillClassifiers) -> None:
        """See `clgym.gym.testing.TestLearners`."""
        Conversation(self._channel).fill_classifiers(message)
