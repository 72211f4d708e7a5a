"""Carry out a request.

Everything here is on the gym's side. It never imports a strategy and never imports torch.
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
    # Here, so that a finished run is shown without what trains one.
    from clgym.gym.confirmation import confirm
    from clgym.gym.learners import Learners
    from clgym.gym.sessions import make_session
    from clgym.gym.withheld_order import order_key

    key = resolved.request.order_key or order_key(resolved.key)
    learners = Learners(resolved, emit)
    with learners.training() as conversation:
        confirm(resolved, conversation)
        return make_session(resolved, conversation, learners, emit, key).run()
