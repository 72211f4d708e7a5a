"""Many jobs on several workers. A pool sends messages to a target and reports how each job ended.

It has no notion of trials or budgets; its user decides how to handle the death of a worker.
"""

from collections.abc import Sequence

from clgym.engines.inline import InlinePool
from clgym.engines.process_pool import ProcessPool
from clgym.engines.spec import Done, Message, OnEvent, PoolSpec, WorkerPool
from clgym.errors import JobLost, MissingExtra, WorkerDied

__all__ = ["Done", "WorkerPool", "PoolSpec", "gather", "open_pool"]


def _ignore(key: str, event: Message) -> None:
    """Ignore an event."""


def open_pool(spec: PoolSpec, target: str, on_event: OnEvent = _ignore) -> WorkerPool:
    """Start workers for ``module:Class``; each message gets its worker's ``device``.

    Raises:
        MissingExtra: ray or submitit is not installed.
    """
    if spec.engine == "process":
        return ProcessPool(spec, target, on_event)
    if spec.engine == "inline":
        return InlinePool(spec, target, on_event)
    try:
        if spec.engine == "ray":
            from clgym.engines.ray_pool import RayPool

            return RayPool(spec, target)
        from clgym.engines.slurm_pool import SlurmPool

        return SlurmPool(spec, target)
    except ImportError as error:
        raise MissingExtra(
            expected=f"the package {error.name} for --engine {spec.engine}",
            found="it is not installed",
            fix=f"pip install 'clgym[{spec.engine}]'",
        ) from error


def gather(pool: WorkerPool, jobs: Sequence[tuple[str, Message]]) -> dict[str, Message]:
    """Carry out jobs that must all succeed; return replies by key. A killed job is repeated once.

    Raises:
        ClgymError: The error of the first job that failed.
    """
    messages, waiting, replies = dict(jobs), [key for key, _ in jobs], {}
    died: set[str] = set()
    while len(replies) < len(messages):
        while waiting and pool.free:
            key = waiting.pop(0)
            pool.submit(key, messages[key])
        for done in pool.wait(1.0):
            if isinstance(done.error, (WorkerDied, JobLost)) and done.key not in died:
                died.add(done.key)
                waiting.append(done.key)
                continue
            if done.error is not None:
                raise done.error
            replies[done.key] = done.reply or {}
    return replies
