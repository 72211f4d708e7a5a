"""Carry out a request.

Everything here is on the gym's side. It never imports a strategy and never imports torch.
"""

import contextlib
from pathlib import Path
from typing import cast

from clgym.data.store import cache_dir
from clgym.engines import Channel, open_channel, refuse_inside
from clgym.gym.confinement import confinement
from clgym.gym.conversation import Conversation, OnEvent, ignore
from clgym.gym.description import LEARNER
from clgym.gym.folder import LEARNER as STATES
from clgym.gym.folder import acquire, check_available, check_earlier, lock
from clgym.gym.learning import LearningPhase
from clgym.gym.plan import ResolvedRun, resolve
from clgym.gym.request import Request
from clgym.gym.session import Phase, Session
from clgym.gym.withheld_order import order_key
from clgym.messages import RunFinished, RunPlanned
from clgym.results.layout import STATE
from clgym.results.record import Record
from clgym.scenario import Stream

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
    with contextlib.closing(_open(resolved)) as channel:
        key = resolved.request.order_key or order_key(resolved.key)
        return make_session(resolved, Conversation(channel, emit), emit, key).run()


def _open(run: ResolvedRun) -> Channel:
    """A learner for this run alone: it may read the run's images and write its own states.

    The folders of the cache that it may write to are those of what its strategy declared.
    """
    request, needs = run.request, run.needs
    read = [Path(split.path) for s in run.sources for split in (s.train, s.test)]
    if request.after is not None:
        read.append(request.after / STATE)
    wanted = {
        "backbones": needs.backbone is not None,
        "features": needs.features,
        "classifiers": bool(needs.classifier),
    }
    write = [run.out / STATES, *(cache_dir() / name for name, used in wanted.items() if used)]
    limit = request.timeout_minutes
    return open_channel(
        request.engine,
        LEARNER,
        confinement(request, run.strategy_config, read, write),
        None if limit is None else 60 * limit,
    )


def make_session(
    resolved: ResolvedRun, conversation: Conversation, emit: OnEvent, key: str
) -> Session:
    """A session of the phases that the run's stream consists of.

    Args:
        resolved: What to run.
        conversation: Conversation with the learner.
        emit: Called with progress.
        key: Key of the order in which test rows are sent, hex.
    """
    stream = cast(object, resolved.stream)  # of any kind; see `clgym.scenario.kind_of`
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
            second = AdaptationPhase(resolved, shift, conversation, emit, key, after=learned)
            phases = [first, second]
        else:
            assert isinstance(stream, AdaptationStream)
            phases = [AdaptationPhase(resolved, stream, conversation, emit, key)]
    return Session(resolved, phases, conversation, emit, key)
