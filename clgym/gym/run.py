"""Carry out a request.

Everything here is on the gym's side. It never imports a strategy and never imports torch.
"""

from clgym.gym.conversation import Conversation, OnEvent
from clgym.gym.description import open_learner
from clgym.gym.folder import acquire, check_available, check_earlier, lock
from clgym.gym.learning import LearningPhase
from clgym.gym.plan import ResolvedRun, resolve
from clgym.gym.request import Request
from clgym.gym.session import Phase, Session
from clgym.gym.withheld_order import order_key
from clgym.messages import RunFinished, RunPlanned
from clgym.results.record import Record
from clgym.scenario import Stream

__all__ = ["make_session", "run"]


def run(request: Request, on_event: OnEvent | None = None) -> Record:
    """Carry out a request, or continue it where its output folder stands.

    Args:
        request: What to run.
        on_event: Called with progress as it happens.

    Returns:
        The record, which is also in the output folder.

    Raises:
        ClgymError: what is wrong with the request, or how the strategy failed.
    """
    emit = on_event or (lambda event: None)
    channel = open_learner(request)
    try:
        resolved = resolve(request, channel)
        check_earlier(resolved)
        emit(RunPlanned(plan=resolved.describe()))
        record = check_available(resolved)
        before = record is not None
        if record is None:
            with lock(resolved):
                record = acquire(resolved)
                before = record is not None
                if record is None:
                    key = request.order_key or order_key(resolved.key)
                    record = make_session(resolved, Conversation(channel, emit), emit, key).run()
        emit(RunFinished(out=str(resolved.out), finished_before=before))
        return record
    finally:
        channel.close()


def make_session(
    resolved: ResolvedRun, conversation: Conversation, emit: OnEvent, key: str
) -> Session:
    """A session of the phases that the run's stream consists of.

    Args:
        resolved: What to run.
        conversation: With the learner.
        emit: Called with progress.
        key: Of the order in which test rows go out, hex.
    """
    stream: object = resolved.stream
    phases: list[Phase]
    if isinstance(stream, Stream):
        phases = [LearningPhase(resolved, stream, conversation, emit, key)]
    else:
        # Here for a fast start of learning runs: corruptions import scipy.
        from clgym.gym.adaptation import AdaptationPhase
        from clgym.streams.adaptation import AdaptationStream
        from clgym.streams.two_phases import TwoPhases

        if isinstance(stream, TwoPhases):
            first = LearningPhase(resolved, stream.learning, conversation, emit, key)
            shift, learned = stream.shift, len(stream.learning)
            second = AdaptationPhase(resolved, shift, conversation, emit, after=learned)
            phases = [first, second]
        else:
            assert isinstance(stream, AdaptationStream)
            phases = [AdaptationPhase(resolved, stream, conversation, emit)]
    return Session(resolved, phases, conversation, emit, key)
