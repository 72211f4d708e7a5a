"""Make the session of a run, with the phases of its stream.

It is separate from `clgym.gym.run`, so that showing a finished run does not import it.
"""

from typing import cast

from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.learning import LearningPhase
from clgym.gym.phase import Phase
from clgym.gym.plan import ResolvedRun
from clgym.gym.session import Session
from clgym.gym.testing import TestLearners
from clgym.scenario import Stream
from clgym.streams.pretraining import PretrainingStream

__all__ = ["make_session"]


def make_session(
    resolved: ResolvedRun,
    conversation: Conversation,
    learners: TestLearners,
    emit: OnEvent,
    key: str,
) -> Session:
    """Return a session of the phases of the run's stream.

    Args:
        resolved: The run.
        conversation: Conversation with the learner that trains.
        learners: Starts learners for tests.
        emit: Called with progress.
        key: Key of the order in which test rows are sent, hexadecimal.
    """
    phases = _phases(resolved, conversation, learners, emit, key)
    return Session(resolved, phases, conversation, emit, key)


def _phases(
    resolved: ResolvedRun,
    conversation: Conversation,
    learners: TestLearners,
    emit: OnEvent,
    key: str,
) -> list[Phase]:
    stream = cast(object, resolved.stream)  # of any kind; see `clgym.scenario.kind_of`
    if isinstance(stream, PretrainingStream):
        from clgym.gym.pretraining import PretrainingPhase

        return [PretrainingPhase(resolved, stream, conversation, learners, emit, key)]
    if isinstance(stream, Stream):
        return [LearningPhase(resolved, stream, conversation, learners, emit, key)]
    # Imported here for a fast start of learning runs, since corruptions import scipy.
    from clgym.gym.adaptation import AdaptationPhase
    from clgym.gym.deletion import DeletionPhase
    from clgym.streams.adaptation import AdaptationStream
    from clgym.streams.after_learning import AfterLearning
    from clgym.streams.deletion import DeletionStream
    from clgym.streams.two_phases import TwoPhases

    if isinstance(stream, AfterLearning):
        first = LearningPhase(resolved, stream.learning, conversation, learners, emit, key)
        if isinstance(stream, DeletionStream):
            return [first, DeletionPhase(resolved, stream, first, conversation, emit, key)]
        assert isinstance(stream, TwoPhases)
        shift, learned = stream.shift, len(stream.learning)
        return [
            first,
            AdaptationPhase(resolved, shift, conversation, learners, emit, key, after=learned),
        ]
    assert isinstance(stream, AdaptationStream)
    return [AdaptationPhase(resolved, stream, conversation, learners, emit, key)]
