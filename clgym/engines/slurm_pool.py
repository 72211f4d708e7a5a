"""Jobs on a SLURM cluster through submitit; all nodes must have access to the folders."""

import time
from typing import Protocol

import submitit  # pyright: ignore[reportMissingImports]

from clgym.engines.answer import answer, done, make_target
from clgym.engines.spec import Done, Message, PoolSpec
from clgym.errors import JobLost

__all__ = ["SlurmPool"]

_POLL_SECONDS = 0.2


def _carry_out(target: str, message: Message) -> Message:
    return answer(make_target(target, lambda event: None), message)


class _Job(Protocol):
    """The methods of submitit's jobs that are used, since the package has no type stubs."""

    job_id: str

    def done(self) -> bool: ...

    def result(self) -> Message: ...

    def cancel(self) -> None: ...


class SlurmPool:
    """See `clgym.engines.spec.WorkerPool`; ``workers`` limits the jobs queued or running."""

    def __init__(self, spec: PoolSpec, target: str) -> None:
        """Choose submitit's executor: SLURM, or ``cluster=local`` for processes on this machine."""
        options = dict(spec.options)
        folder, cluster = options.pop("folder", "slurm"), options.pop("cluster", "slurm")
        self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        self._executor.update_parameters(**{"timeout_min": 24 * 60, **options})
        self._target, self._workers = target, spec.workers
        self._device = spec.device(0).partition(":")[0]
        self._running: dict[str, _Job] = {}

    @property
    def free(self) -> int:
        """See `Pool.free`."""
        return self._workers - len(self._running)

    def submit(self, key: str, message: Message) -> None:
        """See `Pool.submit`."""
        message = {**message, "device": self._device}
        self._running[key] = self._executor.submit(_carry_out, self._target, message)

    def wait(self, seconds: float) -> list[Done]:
        """See `Pool.wait`."""
        end = time.monotonic() + seconds
        while True:
            ready = [key for key, job in self._running.items() if job.done()]
            if ready or time.monotonic() >= end:
                return [self._ended(key) for key in ready]
            time.sleep(_POLL_SECONDS)

    def _ended(self, key: str) -> Done:
        job = self._running.pop(key)
        try:
            reply = job.result()
        except Exception as error:  # submitit raises various exceptions, for lost or killed jobs
            death = JobLost(
                expected="the job to run until its end",
                found=f"{type(error).__name__} of job {job.job_id}",
                fix="Read the job's log",
            )
            return Done(key, None, death)
        return done(key, reply)

    def close(self) -> None:
        """Cancel all jobs that are queued or running."""
        for job in self._running.values():
            job.cancel()
        self._running.clear()
