"""Carry out a request.

Everything here is on the gym's side. It never imports a strategy and never imports torch.
"""

from typing import cast

from clgym.engines import Channel, refuse_inside
from clgym.gym.conversation import Conversation, OnEvent, ignore
from clgym.gym.description import LEARNER
from clgym.gym.folder import acquire, check_available, check_earlier, check_reference, lock
from clgym.gym.learners import Learners
from clgym.gym.learning import LearningPhase
from clgym.gym.phase import Phase
from clgym.gym.plan import ResolvedRun, resolve
from clgym.gym.request import Request
from clgym.gym.session import Session
from clgym.gym.testing import TestLearners
from clgym.gym.withheld_order import order_key
from clgym.messages import RunFinished, RunPlanned
from clgym.results.record import Record
from clgym.scenario import Stream
from clgym.streams.pretraining import PretrainingStream

__all__ = ["make_session", "run"]


def run(
    request: Request, on_event: OnEvent | None = None, describer: Channel | None = None
) -> Record:
    """Carry out a request, or continue it where its output folder stands.

    Args:
        request: What to run.
        on_event: Called with progress as it happens.
        describer: Whom to ask what the strategy needs; None opens one for the question.

    Returns:
        The record, which is also in the output folder.

    Raises:
        ClgymError: what is wrong with the request, or how the strategy failed.
    """
    refuse_inside(LEARNER)
    emit = on_event or ignore
    resolved = resolve(request, describer)
    check_earlier(resolved)
    check_reference(resolved)
    emit(RunPlanned(plan=resolved.describe()))
    record = check_available(resolved)
    before = record is not None
    if record is None:
        with lock(resolved):
            record = acquire(resolved)
            before = record is not None
            if record is None:
                record = _carry_out(resolved, emit)
    emit(RunFinished(out=str(resolved.out), finished_before=before))
    return record


def _carry_out(resolved: ResolvedRun, emit: OnEvent) -> Record:
    key = resolved.request.order_key or order_key(resolved.key)
    learners = Learners(resolved, emit)
    with learners.training() as conversation:
        return make_session(resolved, conversation, learners, emit, key).run()


def make_session(
    resolved: ResolvedRun,
    conversation: Conversation,
    learners: TestLearners,
    emit: OnEvent,
    key: str,
) -> Session:
    """A session of the phases that the run's stream consists of.

    Args:
        resolved: What to run.
        conversation: Conversation with the learner that trains.
        learners: Opens learners for tests.
        emit: Called with progress.
        key: Key of the order in which test rows are sent, hex.
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
    # Here for a fast start of learning runs: corruptions import scipy.
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
        return [first, AdaptationPhase(resolved, shift, conversation, emit, key, after=learned)]
    assert isinstance(stream, AdaptationStream)
    return [AdaptationPhase(resolved, stream, conversation, emit, key)]
