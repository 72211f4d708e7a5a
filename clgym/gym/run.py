"""Carry out a request.

This module belongs to the gym's side, which never imports a strategy or torch.
"""

from clgym.engines import Channel, refuse_inside
from clgym.gym.conversation import OnEvent, ignore
from clgym.gym.description import LEARNER
from clgym.gym.folder import acquire, check_available, check_earlier, check_reference, lock
from clgym.gym.plan import ResolvedRun, resolve
from clgym.gym.request import Request
from clgym.messages import RunFinished, RunPlanned
from clgym.results.record import Record

__all__ = ["run"]


def run(
    request: Request, on_event: OnEvent | None = None, describer: Channel | None = None
) -> Record:
    """Carry out a request, or continue it from the state in its output folder.

    Args:
        request: The run to carry out.
        on_event: Called with each event of progress.
        describer: Channel for questions about the strategy; None opens one.

    Returns:
        The record, which is also in the output folder.

    Raises:
        ClgymError: The request is not valid, or the strategy failed.
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
    # Imported here, so that showing a finished run does not import the code of training.
    from clgym.gym.confirmation import confirm
    from clgym.gym.learners import Learners
    from clgym.gym.sessions import make_session
    from clgym.gym.withheld_order import order_key

    key = resolved.request.order_key or order_key(resolved.order_source)
    learners = Learners(resolved, emit)
    with learners.training() as conversation:
        confirm(resolved, conversation)
        return make_session(resolved, conversation, learners, emit, key).run()
