"""Many independent runs on a pool of workers."""

from collections.abc import Callable, Collection, Mapping

from clgym.engines.pool import Done, PoolSpec, open_pool
from clgym.errors import ClgymError, JobLost, WorkerDied
from clgym.gym.request import Request
from clgym.protocol.jobs import TARGET, as_message
from clgym.protocol.runs import Event

__all__ = ["run_batch"]

_POLL_SECONDS = 1.0


def _never(key: str, unfinished: Collection[str]) -> bool:
    """No run waits for another one."""
    return False


def run_batch(
    requests: Mapping[str, Request],
    pool: PoolSpec,
    emit: Callable[[Event], None],
    held: Callable[[str, Collection[str]], bool] = _never,
    keep_state: bool = False,
) -> dict[str, ClgymError]:
    """Carry out runs; one that was killed is tried once more.

    Args:
        requests: Runs by key, each with an output folder.
        pool: Where to run.
        emit: Called with progress: the start, the events and the end of each run.
        held: Returns whether a run must still wait, given its key and those of all unfinished runs.
        keep_state: Whether the learners' final states are kept beside the records.

    Returns:
        Errors of the runs that failed, by key.
    """
    waiting, running = dict(requests), dict[str, Request]()
    failed, deaths = dict[str, ClgymError](), set[tuple[str, str]]()
    workers = open_pool(pool, TARGET, lambda key, event: emit(_progress(key, event)))
    try:
        while waiting or running:
            for key in list(waiting):
                if workers.free and not held(key, (*waiting, *running)):
                    running[key] = waiting.pop(key)
                    emit({"kind": "start", "key": key})
                    workers.submit(key, as_message(running[key], [], keep_state))
            for done in workers.wait(_POLL_SECONDS):
                request = running.pop(done.key)
                death = (done.key, type(done.error).__name__)
                if isinstance(done.error, (WorkerDied, JobLost)) and death not in deaths:
                    deaths.add(death)
                    waiting[done.key] = request
                    continue
                if done.error is not None:
                    failed[done.key] = done.error
                emit({"kind": "end", **_ended(done)})
    finally:
        workers.close()
    return failed


def _progress(key: str, event: Event) -> Event:
    return {"kind": "run", "key": key, "event": event}


def _ended(done: Done) -> Event:
    """The end of a run, in the form of a study's event."""
    if done.error is None:
        return {"key": done.key, **(done.reply or {})}
    return {"key": done.key, "status": "failed", "reason": done.error.found}
