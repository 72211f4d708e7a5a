"""Carry out a request: who plays which kind of stream.

Everything here is on the gym's side. It never imports a strategy and never imports torch.
"""

from typing import Any

from clgym.engines import OnEvent
from clgym.gym.description import open_learner
from clgym.gym.folder import alone, check_earlier, claim
from clgym.gym.learning import LearningRun
from clgym.gym.plan import Plan, prepare
from clgym.gym.request import Request
from clgym.results.record import Record

__all__ = ["run"]


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
        plan = prepare(request, channel)
        check_earlier(plan)
        emit({"kind": "plan", **plan.describe()})
        finished = claim(plan)
        if finished is None:
            with alone(plan):
                finished = _player(plan)(plan, channel, emit).play()
            emit({"kind": "done", "out": str(plan.out), "finished_before": False})
        else:
            emit({"kind": "done", "out": str(plan.out), "finished_before": True})
        return finished
    finally:
        channel.close()


def _player(plan: Plan) -> Any:
    """Who plays a plan's kind of stream."""
    setting: str = plan.stream.setting
    if setting == "learn-then-shift":
        from clgym.gym.two_phases import TwoPhaseRun

        return TwoPhaseRun
    if setting != "adaptation":
        return LearningRun
    from clgym.gym.adaptation import AdaptationRun  # whose corruptions import scipy

    return AdaptationRun
